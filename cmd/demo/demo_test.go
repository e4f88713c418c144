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
	"github.com/latchkey-go/latchkey/internal/storm"
)

// asCommand is set where a test starts this program to be the command itself.
const asCommand = "LATCHKEY_TEST_AS_DEMO"

// TestMain makes this program the command itself where it is asked to be that, and where a storm starts it again as its
// workers.
func TestMain(m *testing.M) {
	if storm.IsWorker() || os.Getenv(asCommand) != "" {
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
	_, err = db.ExecContext(t.Context(), "DROP DATABASE IF EXISTS `"+database+"`") // go test -count=2 comes again
	must(t, errors.Join(err, db.Close()))
	must(t, createDatabase(t.Context(), private.server.DSN(""), database))
	t.Setenv("MYSQL_DSN", private.server.DSN(database))
}

// useNoServer has it find none but what the test sets up on that port.
func useNoServer(t *testing.T, port string) {
	t.Helper()
	t.Setenv("MYSQL_DSN", "")
	t.Setenv("LATCHKEY_MYSQL_PORT", port)
}

type ran struct {
	status         int
	stdout, stderr string
}

func demo(stdin string, args ...string) ran {
	var stdout, stderr bytes.Buffer
	status := run(append([]string{"demo"}, args...), strings.NewReader(stdin), &stdout, &stderr)
	return ran{status, stdout.String(), stderr.String()}
}

// ok runs the command with --json, which must succeed and write one object.
func ok(t *testing.T, stdin string, args ...string) map[string]any {
	t.Helper()
	r := demo(stdin, append(args, "--json")...)
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

	if r := demo("", "list"); r.status != exitFailed || !strings.Contains(r.stderr, "demo migrate up") {
		t.Errorf("list without a table: status %d: %s", r.status, r.stderr)
	}
	if got := ok(t, "", "migrate", "up")["applied"].([]any); len(got) == 0 {
		t.Error("migrate up applied nothing")
	}
	grant := `{"refresh_token": "` + p.Provider.Register("alice") + `", "extra": {"tenant": "t-1"}}`
	ok(t, grant, "put", " Example ", "alice")
	if got := ok(t, "", "get", "example", "alice"); got["state"] != "no token yet" || got["service"] != "example" {
		t.Errorf("get after put: %v", got)
	}
	refresh := []string{"refresh", "example", "alice", "--token-url", p.TokenURL(), "--client-id", "any"}
	if got := ok(t, "", refresh...); got["state"] != "fresh" || got["token"] != "[redacted]" || got["refresh_token"] != "[redacted]" {
		t.Errorf("refresh: %v", got)
	}
	first := ok(t, "", "get", "example", "alice", "--reveal")
	if account, valid := p.Provider.Validate(first["token"].(string)); account != "alice" || !valid {
		t.Errorf("get --reveal: the token is %q's, valid: %v", account, valid)
	}
	if extra := first["extra"].(map[string]any); extra["tenant"] != "t-1" {
		t.Errorf("extra = %v, want what was put to be kept", extra)
	}
	if second := ok(t, "", append(refresh, "--reveal")...); second["token"] == first["token"] {
		t.Error("refresh of a fresh token exchanged nothing")
	}
	if calls := p.Provider.Stats().Calls; calls != 2 {
		t.Errorf("the endpoint got %d calls, want one for each refresh", calls)
	}

	p.Provider.Revoke("alice")
	if r := demo("", refresh...); r.status != exitFailed || !strings.Contains(r.stderr, "invalid_grant") || strings.Count(r.stderr, "\ndemo: ") != 1 {
		t.Errorf("refresh of a revoked grant: status %d: %s", r.status, r.stderr)
	}
	list := ok(t, "", "list", "example")["credentials"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["failure"].(map[string]any)["class"] != "rejected" {
		t.Errorf("list: %v", list)
	}
	for _, args := range [][]string{{"get", "example", "alice"}, {"list"}} {
		if r := demo("", args...); r.status != 0 || !strings.Contains(r.stdout, "alice") || !strings.Contains(r.stdout, "[redacted]") || strings.Contains(r.stdout, "refresh-") {
			t.Errorf("demo %v: status %d: %s%s", args, r.status, r.stdout, r.stderr)
		}
	}
	ok(t, "", "delete", "example", "alice")
	if r := demo("", "get", "example", "alice"); r.status != exitFailed || !strings.Contains(r.stderr, "there is no credential example/alice") {
		t.Errorf("get after delete: status %d: %s", r.status, r.stderr)
	}

	if r := demo("", "migrate", "down"); r.status != exitUsage || !strings.Contains(r.stderr, "--yes") {
		t.Errorf("migrate down without --yes: status %d: %s", r.status, r.stderr)
	}
	ok(t, "", "migrate", "down", "--yes")
	status := ok(t, "", "migrate", "status")["migrations"].([]any)
	if status[0].(map[string]any)["applied"] != false {
		t.Errorf("migrate status after down: %v", status)
	}
}

func TestStorm(t *testing.T) {
	useServer(t, "storm")
	got := ok(t, "", "storm", "--latency", "20ms", "--processes", "2")
	if got["ok"] != true || got["callers"] != 12.0 || !strings.HasSuffix(got["server"].(string), "(dsn)") {
		t.Errorf("storm --json: %v", got)
	}
	r := demo("", "storm", "--latency", "20ms", "--processes", "2", "--pool", "1", "--accounts", "25")
	if r.status != 0 || !strings.Contains(r.stdout, "\nOK: ") || !strings.Contains(r.stdout, "and 5 more") {
		t.Errorf("storm: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestSchemaIsSQL(t *testing.T) {
	useNoServer(t, "1")
	if r := demo("", "schema"); r.status != 0 || !strings.Contains(r.stdout, "CREATE TABLE") {
		t.Errorf("schema: status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	if got := ok(t, "", "schema")["schema"].(string); !strings.Contains(got, "CREATE TABLE") {
		t.Errorf("schema --json: %s", got)
	}
}

func TestErrorsNameCauseAndRemedy(t *testing.T) {
	useNoServer(t, "1")
	t.Setenv("CLIENT_SECRET", "")
	answers, err := net.Listen("tcp", "127.0.0.1:0") // and hangs up at once
	must(t, err)
	t.Cleanup(func() { _ = answers.Close() })
	go func() {
		for {
			conn, err := answers.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	empty, large := filepath.Join(t.TempDir(), "empty"), `{"token": "hunter2`+strings.Repeat("x", maxGrant)+`"}`
	must(t, os.WriteFile(empty, nil, 0o600))
	for name, test := range map[string]struct {
		stdin  string
		args   []string
		status int
		want   string
	}{
		"nobody listens":        {"", []string{"list", "--dsn", "u:hunter2@tcp(127.0.0.1:1)/d"}, exitFailed, "no server answers at 127.0.0.1:1"},
		"empty DSN":             {"", []string{"list", "--dsn", ""}, exitUsage, "--dsn is empty"},
		"unreadable DSN":        {"", []string{"list", "--dsn", "mysql://u:hunter2@127.0.0.1/d"}, exitFailed, "user:password@tcp(host:3306)/database"},
		"no database":           {"", []string{"list", "--dsn", "u:hunter2@tcp(127.0.0.1:1)/"}, exitFailed, "names no database"},
		"not a server":          {"", []string{"list", "--dsn", "u:hunter2@tcp(" + answers.Addr().String() + ")/d"}, exitFailed, "does not speak MySQL, or is not ready"},
		"no server":             {"", []string{"list"}, exitFailed, "docker-compose up -d"},
		"unknown subcommand":    {"", []string{"bogus"}, exitUsage, `no subcommand "bogus"`},
		"unknown subcommand 2":  {"", []string{"migrate", "sideways"}, exitUsage, "there are up, down, status"},
		"unknown flag":          {"", []string{"storm", "--proceses", "3"}, exitUsage, "demo storm --help"},
		"not a number":          {"", []string{"storm", "--processes", "x"}, exitUsage, `invalid value "x"`},
		"zero":                  {"", []string{"storm", "--accounts", "0"}, exitUsage, "at least 1"},
		"too many":              {"", []string{"storm", "--processes", "1000"}, exitUsage, "not between 1 and 256"},
		"negative latency":      {"", []string{"storm", "--latency", "-1s"}, exitUsage, "--latency is -1s"},
		"argument of storm":     {"", []string{"storm", "now"}, exitUsage, "takes no arguments"},
		"argument of provider":  {"", []string{"provider", "xero"}, exitUsage, "takes no arguments"},
		"argument of schema":    {"", []string{"schema", "foo"}, exitUsage, "takes no arguments"},
		"argument of up":        {"", []string{"migrate", "up", "3"}, exitUsage, "migrate up takes no arguments"},
		"argument of down":      {"", []string{"migrate", "down", "--yes", "3"}, exitUsage, "takes no arguments"},
		"argument of status":    {"", []string{"migrate", "status", "up"}, exitUsage, "takes no arguments"},
		"arguments of list":     {"", []string{"list", "xero", "alice"}, exitUsage, "at most a service"},
		"arguments of delete":   {"", []string{"delete", "xero", "alice", "bob"}, exitUsage, "SERVICE [ACCOUNT]"},
		"no service":            {"", []string{"get"}, exitUsage, "SERVICE [ACCOUNT]"},
		"odd service":           {"", []string{"get", "git hub"}, exitUsage, "service name"},
		"odd service of list":   {"", []string{"list", "git hub"}, exitUsage, "service name"},
		"no grant":              {"", []string{"put", "github"}, exitFailed, "no grant on stdin"},
		"grant file is missing": {"", []string{"put", "github", "--from", filepath.Join(t.TempDir(), "none")}, exitFailed, "no such file"},
		"grant is a folder":     {"", []string{"put", "github", "--from", t.TempDir()}, exitFailed, "read the grant: read "},
		"grant file is empty":   {"", []string{"put", "github", "--from", empty}, exitFailed, "no grant in " + empty},
		"large grant":           {large, []string{"put", "github"}, exitFailed, "larger than 1 MiB"},
		"no token URL":          {"", []string{"refresh", "github"}, exitUsage, "token-url"},
		"odd grant type":        {"", []string{"refresh", "github", "--token-url", "http://127.0.0.1:1", "--client-id", "a", "--grant", "password"}, exitUsage, "client_credentials"},
		"odd auth style":        {"", []string{"refresh", "github", "--token-url", "http://127.0.0.1:1", "--client-id", "a", "--auth-style", "x"}, exitUsage, "header or body"},
		"odd token URL":         {"", []string{"refresh", "github", "--token-url", "nowhere", "--client-id", "a"}, exitUsage, "demo: --token-url is not"},
		"unreadable token URL":  {"", []string{"refresh", "github", "--token-url", "http://h:hunter2/", "--client-id", "a"}, exitUsage, "demo: --token-url is not"},
		"empty client id":       {"", []string{"refresh", "github", "--token-url", "http://127.0.0.1:1", "--client-id", ""}, exitUsage, "--client-id is empty"},
		"no client secret":      {"", []string{"refresh", "github", "--token-url", "http://127.0.0.1:1", "--client-id", "a", "--grant", "client_credentials"}, exitUsage, "$CLIENT_SECRET"},
		"no lifetime":           {"", []string{"provider", "--lifetime", "0s", "--listen", "0.0.0.0:0"}, exitUsage, "--lifetime is 0s"},
		"public provider":       {"", []string{"provider", "--listen", "0.0.0.0:0"}, exitUsage, "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{test.args, append(test.args[:len(test.args):len(test.args)], "--json")} {
				r := demo(test.stdin, args...)
				if r.status != test.status || !strings.Contains(r.stderr, test.want) {
					t.Errorf("demo %q: status %d, want %d and %q: %s", args, r.status, test.status, test.want, r.stderr)
				}
				if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
					t.Errorf("demo %q: want one line on stderr and nothing on stdout:\n%s\n%s", args, r.stderr, r.stdout)
				}
				if strings.Contains(r.stderr, "hunter2") {
					t.Errorf("demo %q shows the password: %s", args, r.stderr)
				}
			}
		})
	}
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
			r := demo("", "list")
			if r.status != exitFailed || !strings.Contains(r.stderr, test.want) || strings.Contains(r.stderr, password) || strings.Contains(r.stderr, "hunter2") {
				t.Errorf("status %d: %s, want %q and no password", r.status, r.stderr, test.want)
			}
		})
	}
}

func TestHelpShowsNoPasswordAndAnExample(t *testing.T) {
	t.Setenv("MYSQL_DSN", "u:hunter2@tcp(127.0.0.1:1)/d")
	for _, args := range [][]string{
		{}, {"storm"}, {"migrate"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"}, {"schema"}, {"put"}, {"get"}, {"list"},
		{"delete"}, {"refresh"}, {"keep"}, {"provider"},
	} {
		r := demo("", append(args, "--help")...)
		if r.status != 0 || !strings.Contains(r.stdout, "Example:") {
			t.Errorf("demo %v --help: status %d, without an example:\n%s", args, r.status, r.stdout)
		}
		if strings.Contains(r.stdout+r.stderr, "hunter2") {
			t.Errorf("demo %v --help shows the password", args)
		}
	}
}
