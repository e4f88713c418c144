package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// asCommand is set where a test starts this program to be the command itself.
const asCommand = "LATCHKEY_TEST_AS_DEMO"

// TestMain makes this program the command itself where a test asks for that, and where a storm
// starts it again as its workers.
func TestMain(m *testing.M) {
	if worker.Started() || os.Getenv(asCommand) != "" {
		main()
		return
	}
	code := m.Run()
	if private.server != nil {
		_ = private.server.Stop()
	}
	os.Exit(code)
}

var private struct {
	once   sync.Once
	server *localmysql.Server
	err    error
}

// useServer has the command find a private server, with a database of that name, in $MYSQL_DSN.
func useServer(t *testing.T, database string) {
	t.Helper()
	private.once.Do(func() { private.server, private.err = localmysql.Start(t.Context(), nil) })
	must(t, private.err)
	db, err := sql.Open("mysql", private.server.DSN(""))
	must(t, err)
	// Under go test -count=2 the database is there.
	_, err = db.ExecContext(t.Context(), "DROP DATABASE IF EXISTS `"+database+"`")
	must(t, errors.Join(err, db.Close()))
	must(t, createDatabase(t.Context(), private.server.DSN(""), database))
	t.Setenv("MYSQL_DSN", private.server.DSN(database))
}

// useNoServer has the command find no server but the one that the test sets up on that port.
func useNoServer(t *testing.T, port string) {
	t.Helper()
	t.Setenv("MYSQL_DSN", "")
	t.Setenv("LATCHKEY_MYSQL_PORT", port)
}

// ran is the command when it has ended.
type ran struct {
	t              *testing.T
	args           []string
	status         int
	stdout, stderr string
}

func demo(t *testing.T, stdin string, args ...string) ran {
	var stdout, stderr bytes.Buffer
	status := run(append([]string{"demo"}, args...), strings.NewReader(stdin), &stdout, &stderr)
	return ran{t, args, status, stdout.String(), stderr.String()}
}

// ends fails the test unless the exit status is that one.
func (r ran) ends(status int) ran {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("demo %q: status %d, want %d\n%s%s", r.args, r.status, status, r.stdout, r.stderr)
	}
	return r
}

// shows fails the test unless stdout has each of the texts.
func (r ran) shows(texts ...string) ran {
	r.t.Helper()
	r.has("stdout", r.stdout, texts)
	return r
}

// says fails the test unless stderr has each of the texts.
func (r ran) says(texts ...string) ran {
	r.t.Helper()
	r.has("stderr", r.stderr, texts)
	return r
}

func (r ran) has(name, got string, texts []string) {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			r.t.Errorf("demo %q: want %q on %s\n%s%s", r.args, text, name, r.stdout, r.stderr)
		}
	}
}

// hides fails the test if any of the texts was written.
func (r ran) hides(texts ...string) ran {
	r.t.Helper()
	for _, text := range texts {
		if strings.Contains(r.stdout+r.stderr, text) {
			r.t.Errorf("demo %q: want no %q\n%s%s", r.args, text, r.stdout, r.stderr)
		}
	}
	return r
}

// fields are members of a JSON object.
type fields map[string]any

// in fails the test unless the object has the fields.
func (want fields) in(t *testing.T, object any) {
	t.Helper()
	got, _ := object.(map[string]any)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %v, want %v, in %v", name, got[name], value, object)
		}
	}
}

// ok runs the command with --json, which must succeed and write one object.
func ok(t *testing.T, stdin string, args ...string) map[string]any {
	t.Helper()
	r := demo(t, stdin, append(args, "--json")...)
	if r.status != 0 {
		t.Fatalf("demo %q: status %d: %s", args, r.status, r.stderr)
	}
	var object map[string]any
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	must(t, decoder.Decode(&object))
	if decoder.More() {
		t.Errorf("demo %q wrote more than an object: %s", args, r.stdout)
	}
	return object
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfACredential(t *testing.T) {
	useServer(t, "life")
	p, err := provider.Start("", provider.New(provider.Options{}))
	must(t, err)
	t.Cleanup(func() { _ = p.Close() })

	demo(t, "", "list").ends(exitFailed).says("demo migrate up")
	if got := ok(t, "", "migrate", "up")["applied"].([]any); len(got) == 0 {
		t.Error("migrate up applied nothing")
	}
	grant := `{"refresh_token": "` + p.Provider.Register("alice") + `", "extra": {"tenant": "t-1"}}`
	ok(t, grant, "put", " Example ", "alice")
	fields{"state": "no token yet", "service": "example"}.in(t, ok(t, "", "get", "example/alice"))
	refresh := []string{
		"refresh", "example", "alice", "--token-url", p.TokenURL(), "--client-id", "any",
	}
	fields{
		"state": "fresh", "token": "[redacted]", "refresh_token": "[redacted]",
	}.in(t, ok(t, "", refresh...))
	first := ok(t, "", "get", "example", "alice", "--reveal")
	if account, valid := p.Provider.Validate(first["token"].(string)); account != "alice" || !valid {
		t.Errorf("get --reveal: the token is %q's, valid: %v", account, valid)
	}
	fields{"tenant": "t-1"}.in(t, first["extra"]) // as it was put
	if second := ok(t, "", append(refresh, "--reveal")...); second["token"] == first["token"] {
		t.Error("refresh of a fresh token exchanged nothing")
	}
	if calls := p.Provider.Stats().Calls; calls != 2 {
		t.Errorf("the endpoint got %d calls, want one for each refresh", calls)
	}

	p.Provider.Revoke("alice")
	isShownAsDead(t, refresh)
	ok(t, "", "delete", "example", "alice")
	demo(t, "", "get", "example", "alice").ends(exitFailed).says("there is no credential example/alice")

	demo(t, "", "migrate", "down").ends(exitUsage).says("--yes")
	ok(t, "", "migrate", "down", "--yes")
	ok(t, "", "migrate", "up")
	fields{"applied": true}.in(t, ok(t, "", "migrate", "status")["migrations"].([]any)[0])
	ok(t, "", "migrate", "down", "--yes")
	demo(t, "", "migrate", "status").ends(exitFailed).shows("pending")
}

// isShownAsDead has the token of example/alice refreshed, whose grant was revoked.
func isShownAsDead(t *testing.T, refresh []string) {
	t.Helper()
	r := demo(t, "", refresh...).ends(exitFailed).says("invalid_grant")
	if strings.Count(r.stderr, "\ndemo: ") != 1 {
		t.Errorf("refresh of a revoked grant: %s, want one error", r.stderr)
	}
	list := ok(t, "", "list", "example")["credentials"].([]any)
	if len(list) != 1 {
		t.Fatalf("list: %v, want one credential", list)
	}
	dead := list[0].(map[string]any)
	fields{"state": "dead"}.in(t, dead)
	fields{"class": "dead"}.in(t, dead["failure"])
	if dead["expires_in"].(float64) <= 0 {
		t.Errorf("list: expires in %v; want a token that is still good", dead["expires_in"])
	}
	demo(t, "", "get", "example", "alice").ends(0).shows("alice", "[redacted]").hides("refresh-")
	demo(t, "", "list", "--state", "dead").ends(0).shows("alice", "dead").hides("refresh-", "redacted")
	demo(t, "", "list", "--state", "no-token-yet", "--state", "fresh", "--state", "being refreshed").ends(0).
		shows("no credentials\n")
	revealed := ok(t, "", "list", "example", "--state", "dead", "--reveal")["credentials"].([]any)
	token := ok(t, "", "get", "example", "alice", "--reveal")["token"]
	fields{"state": "dead", "account": "alice", "token": token}.in(t, revealed[0])
	demo(t, "", "list", "--reveal").ends(0).shows("alice", token.(string)).hides("refresh-")
	if _, shown := dead["token"]; shown {
		t.Errorf("list without --reveal: %v, want no token", dead)
	}
}

func TestStorm(t *testing.T) {
	useServer(t, "storm")
	got := ok(t, "", "storm", "--latency", "20ms", "--processes", "2")
	fields{"ok": true, "callers": 12.0}.in(t, got)
	if !strings.HasSuffix(got["server"].(string), "(dsn)") {
		t.Errorf("storm --json: %v", got)
	}
	demo(t, "", "storm", "--latency", "20ms", "--processes", "2", "--pool", "1", "--accounts", "25").
		ends(0).shows("\nOK: ", "and 5 more")
}

func TestSchemaIsSQL(t *testing.T) {
	useNoServer(t, "1")
	demo(t, "", "schema").ends(0).shows("CREATE TABLE")
	if got := ok(t, "", "schema")["schema"].(string); !strings.Contains(got, "CREATE TABLE") {
		t.Errorf("schema --json: %s", got)
	}
}

// line is a command line that must fail. Its arguments are separated by "|".
type line struct{ args, want string }

// fail runs the command lines, with --json and without. Each must end with the status, write
// nothing to stdout, and to stderr one line with the wanted text and without the password hunter2.
func fail(t *testing.T, status int, stdin string, lines map[string]line) {
	t.Helper()
	for name, line := range lines {
		t.Run(name, func(t *testing.T) {
			args := strings.Split(line.args, "|")
			for _, args := range [][]string{args, append(args[:len(args):len(args)], "--json")} {
				r := demo(t, stdin, args...).ends(status).says(line.want).hides("hunter2")
				if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
					t.Errorf("demo %q: want one line on stderr and nothing on stdout:\n%s\n%s",
						args, r.stderr, r.stdout)
				}
			}
		})
	}
}

func TestErrorsNameCauseAndRemedy(t *testing.T) {
	useNoServer(t, "1")
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = hangsUp.Close() })
	go func() {
		for {
			conn, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	const dsn = "list|--dsn|u:hunter2@tcp(127.0.0.1:1)/"
	other := "list|--dsn|u:hunter2@tcp(" + hangsUp.Addr().String() + ")/d"
	missing := filepath.Join(t.TempDir(), "none")
	fail(t, exitFailed, "", map[string]line{
		"nobody listens":        {dsn + "d", "no server answers at 127.0.0.1:1"},
		"unreadable DSN":        {"list|--dsn|mysql://u:hunter2@127.0.0.1/d", "@tcp(host:3306)/database"},
		"no database":           {dsn, "names no database"},
		"not a server":          {other, "does not speak MySQL, or is not ready"},
		"no server":             {"list", "docker-compose up -d"},
		"no grant":              {"put|github", "no grant on stdin"},
		"grant file is missing": {"put|github|--from|" + missing, "no such file"},
		"grant is a folder":     {"put|github|--from|" + t.TempDir(), "read the grant: read "},
		"grant file is empty":   {"put|github|--from|" + empty, "no grant in " + empty},
	})
	large := `{"token": "hunter2` + strings.Repeat("x", maxGrant) + `"}`
	fail(t, exitFailed, large, map[string]line{"large grant": {"put|github", "larger than 1 MiB"}})
}

func TestUsageErrorsNameTheRemedy(t *testing.T) {
	useNoServer(t, "1")
	t.Setenv("CLIENT_SECRET", "")
	const refresh = "refresh|github|--token-url|http://127.0.0.1:1|--client-id|a"
	fail(t, exitUsage, "", map[string]line{
		"empty DSN":            {"list|--dsn|", "--dsn is empty"},
		"unknown subcommand":   {"bogus", `no subcommand "bogus"`},
		"unknown subcommand 2": {"migrate|sideways", "there are up, down, status"},
		"unknown flag":         {"storm|--proceses|3", "demo storm --help"},
		"not a number":         {"storm|--processes|x", `invalid value "x"`},
		"zero":                 {"storm|--accounts|0", "at least 1"},
		"too many":             {"storm|--processes|1000", "not between 1 and 256"},
		"negative latency":     {"storm|--latency|-1s", "--latency is -1s"},
		"argument of storm":    {"storm|now", "takes no arguments"},
		"argument of provider": {"provider|xero", "takes no arguments"},
		"argument of schema":   {"schema|foo", "takes no arguments"},
		"argument of up":       {"migrate|up|3", "migrate up takes no arguments"},
		"argument of down":     {"migrate|down|--yes|3", "takes no arguments"},
		"argument of status":   {"migrate|status|up", "takes no arguments"},
		"arguments of list":    {"list|xero|alice", "at most a service"},
		"arguments of delete":  {"delete|xero|alice|bob", "SERVICE [ACCOUNT]"},
		"no service":           {"get", "SERVICE [ACCOUNT]"},
		"odd service":          {"get|git hub", "service name"},
		"odd service of list":  {"list|git hub", "service name"},
		"no such state":        {"list|--state|well", "being refreshed, interrupted"},
		"no token URL":         {"refresh|github", "token-url"},
		"odd grant type":       {refresh + "|--grant|password", "client_credentials"},
		"odd auth style":       {refresh + "|--auth-style|x", "header or body"},
		"odd token URL":        {refresh + "|--token-url|nowhere", "demo: --token-url is not"},
		"unreadable token URL": {refresh + "|--token-url|http://h:hunter2/", "demo: --token-url is not"},
		"empty client id":      {refresh + "|--client-id|", "--client-id is empty"},
		"no client secret":     {refresh + "|--grant|client_credentials", "$CLIENT_SECRET"},
		"no lifetime":          {"provider|--lifetime|0s|--listen|0.0.0.0:0", "--lifetime is 0s"},
		"public provider":      {"provider|--listen|0.0.0.0:0", "loopback"},
		"unknown provider":     {"provider|--as|Exact|--listen|127.0.0.1:0", "dropbox, exact-online, fitbit"},
	})
}

func TestWrongDSNOnARealServer(t *testing.T) {
	useServer(t, "wrong")
	dsn := private.server.DSN("wrong")
	password := dsn[strings.Index(dsn, ":")+1 : strings.Index(dsn, "@")]
	for name, test := range map[string]struct{ dsn, want string }{
		"password": {strings.Replace(dsn, password, "hunter2", 1), "check user and password"},
		"database": {private.server.DSN("nowhere"), "CREATE DATABASE `nowhere`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MYSQL_DSN", test.dsn)
			demo(t, "", "list").ends(exitFailed).says(test.want).hides(password, "hunter2")
		})
	}
}

func TestHelpShowsNoPasswordAndAnExample(t *testing.T) {
	t.Setenv("MYSQL_DSN", "u:hunter2@tcp(127.0.0.1:1)/d")
	for _, args := range [][]string{
		{}, {"storm"}, {"migrate"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"},
		{"schema"}, {"put"}, {"get"}, {"list"}, {"delete"}, {"disable"}, {"enable"}, {"release"}, {"revive"}, {"export"}, {"import"}, {"refresh"}, {"keep"}, {"provider"},
	} {
		demo(t, "", append(args, "--help")...).ends(0).shows("Example:").hides("hunter2")
	}
}
