// Package examples_test builds the examples and runs them, as processes of their own, against a
// private server and the demo's provider.
package examples_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/migrations"
)

const clientSecret = "client s3cret %"

var (
	programs string             // the folder of the programs
	server   *localmysql.Server // private
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "examples:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if programs, err = os.MkdirTemp("", "latchkey-examples-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(programs)
	build := exec.Command("go", "build", "-o", programs, "./service-token", "./per-user", "./sdk-client")
	if output, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, output)
	}
	if server, err = localmysql.Start(context.Background(), nil); err != nil {
		return 0, err
	}
	defer func() { _ = server.Stop() }()
	return m.Run(), nil
}

// A program imports what a user of the library can import.
func TestExamplesImport(t *testing.T) {
	files, err := filepath.Glob("*/main.go")
	if err != nil || len(files) < 4 {
		t.Fatalf("got %v, error %v; want the programs", files, err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if strings.Contains(spec.Path.Value, "/internal/") {
				t.Errorf("%s imports %s", name, spec.Path.Value)
			}
		}
	}
}

// world is a database with the table, and a provider, which is the API too.
type world struct {
	*testing.T
	store    *mysql.Store
	provider *provider.Server
	env      []string
}

// start makes the world of a test, and a database of that name in it.
func start(t *testing.T, database string, options provider.Options) *world {
	t.Helper()
	w := &world{T: t}
	db := w.open("")
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + database, "CREATE DATABASE " + database} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	db = w.open(database)
	if _, err := migrations.Up(t.Context(), db, nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.store, err = mysql.NewStore(db, nil); err != nil {
		t.Fatal(err)
	}
	options.ClientSecret = clientSecret
	if w.provider, err = provider.Start("", provider.New(options)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.provider.Close() })
	w.env = append(os.Environ(), "MYSQL_DSN="+server.DSN(database), "CLIENT_SECRET="+clientSecret,
		"AUTH_URL="+w.provider.URL+"/authorize", "TOKEN_URL="+w.provider.TokenURL(), "API_URL="+w.provider.URL+"/userinfo")
	return w
}

func (w *world) open(database string) *sql.DB {
	w.Helper()
	db, err := sql.Open("mysql", server.DSN(database))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = db.Close() })
	return db
}

// put stores a grant whose access token, if there is one, the API turns down.
func (w *world) put(key credentials.Key, account, accessToken string) {
	w.Helper()
	grant := credentials.Grant{
		AccessToken:  credentials.NewSecret(accessToken),
		RefreshToken: credentials.NewSecret(w.provider.Provider.Register(account)),
	}
	if err := w.store.Put(w.Context(), key, grant); err != nil {
		w.Fatal(err)
	}
}

// program is a running example.
type program struct {
	*exec.Cmd
	output bytes.Buffer
}

// starts starts the example of that name. It is killed at the end of the test, should it run then.
func (w *world) starts(name string, env ...string) *program {
	w.Helper()
	p := &program{Cmd: exec.CommandContext(w.Context(), filepath.Join(programs, name))}
	p.Env = append(w.env, env...)
	p.Stdout, p.Stderr = &p.output, &p.output
	if err := p.Start(); err != nil {
		w.Fatal(err)
	}
	return p
}

// ends fails the test unless the program ends well, with that text in so many lines of its output.
func (w *world) ends(p *program, text string, lines int) {
	w.Helper()
	err := p.Wait()
	if got := strings.Count(p.output.String(), text); err != nil || got != lines {
		w.Errorf("got %v, %q %d times; want no error, %d times\n%s", err, text, got, lines, p.output.String())
	}
}

// presented fails the test unless the provider got so many presentations.
func (w *world) presented(want int) {
	w.Helper()
	if got := w.provider.Provider.Presentations(); len(got) != want {
		w.Errorf("the provider got %d presentations; want %d: %+v", len(got), want, got)
	}
}

// All workers of all processes share the token of one exchange, and nobody has put a row.
func TestServiceToken(t *testing.T) {
	w := start(t, "service_token", provider.Options{ClientID: "billing-worker", Latency: 200 * time.Millisecond})
	processes := []*program{w.starts("service-token"), w.starts("service-token"), w.starts("service-token")}
	for _, p := range processes {
		w.ends(p, "the API answered 200 OK", 8)
	}
	w.presented(1)
}

// The SDK's request carries a stored token; one that the API turns down is exchanged.
func TestSDKClient(t *testing.T) {
	for _, accessToken := range []string{"", "turned-down"} {
		t.Run("access token "+accessToken, func(t *testing.T) {
			w := start(t, "sdk_client", provider.Options{ClientID: "app"})
			w.put(credentials.Key{Service: "tickets", Account: "alice"}, "alice", accessToken)
			w.ends(w.starts("sdk-client"), "the API answered 200 OK", 1)
			w.presented(1)
		})
	}
}

// browser is a user's.
type browser struct {
	*world
	user   string
	client http.Client
}

func (w *world) browser(user string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.Fatal(err)
	}
	return &browser{w, user, http.Client{Jar: jar}}
}

// gets asks for the URL, follows redirects and returns the answer.
func (b *browser) gets(url string) (status int, body string, err error) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("User", b.user)
	response, err := b.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return response.StatusCode, string(raw), err
}

// sees fails the test unless the URL answers with that status and, in its body, that text.
func (b *browser) sees(url string, status int, text string) {
	b.Helper()
	got, body, err := b.gets(url)
	if err != nil || got != status || !strings.Contains(body, text) {
		b.Errorf("%s got %d %q, error %v; want %d, %q", b.user, got, body, err, status, text)
	}
}

// serves starts the example of that name at a port that is free, and returns its URL.
func (w *world) serves(name string) string {
	w.Helper()
	for range 10 { // somebody else may take the port in between
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.Fatal(err)
		}
		address := listener.Addr().String()
		_ = listener.Close()
		p := w.starts(name, "LISTEN="+address)
		ended := make(chan error, 1)
		go func() { ended <- p.Wait() }()
		for {
			if conn, err := net.Dial("tcp", address); err == nil {
				_ = conn.Close()
				return "http://" + address
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Millisecond):
				continue
			}
			break
		}
		w.Logf("%s ended: %s", name, p.output.String())
	}
	w.Fatalf("%s does not start", name)
	return ""
}

// A user without a grant is sent to the provider and comes back with one. A user whose grant was
// revoked is, too. A token that the API turns down is replaced.
func TestPerUser(t *testing.T) {
	w := start(t, "per_user", provider.Options{ClientID: "app"})
	url := w.serves("per-user")
	alice, bob := w.browser("alice"), w.browser("bob")
	alice.sees(url+"/me", http.StatusOK, `"sub":"demo"`)
	w.presented(1) // the code
	bob.sees(url+"/me", http.StatusOK, `"sub":"demo"`)
	alice.sees(url+"/me", http.StatusOK, `"sub":"demo"`)
	w.presented(2)

	w.browser("mallory").sees(url+"/callback?code=code-1", http.StatusBadGateway, "please log in again")
	alice.sees(url+"/callback?code=code-1", http.StatusBadGateway, "please log in again")
	w.browser("\u202e").sees(url+"/me", http.StatusServiceUnavailable, "please try again later")

	w.put(credentials.Key{Service: "calendar", Account: "carol"}, "carol", "turned-down")
	w.browser("carol").sees(url+"/me", http.StatusOK, `"sub":"carol"`)

	w.provider.Provider.Revoke("demo")
	alice.sees(url+"/me", http.StatusUnauthorized, "invalid_token")
	alice.sees(url+"/me", http.StatusOK, `"sub":"demo"`)

}
