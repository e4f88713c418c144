package main

import (
	"errors"
	"net"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
)

// A password that stands anywhere in what was given must not come back in an error.
const fuzzPassword = "correct-horse-battery-staple"

func FuzzDSNHints(f *testing.F) {
	for _, seed := range []string{
		"user:PASSWORD@tcp(127.0.0.1:3306)/db", "mysql://user:PASSWORD@127.0.0.1/db",
		"user:PASSWORD@127.0.0.1:3306/db", "user:PASSWORD@tcp(127.0.0.1:3306)",
		"user:PASSWORD@tcp(127.0.0.1:3306)/", "PASSWORD", "@/db", "/", "",
		"user:PASSWORD@tcp(h)/db?parseTime=PASSWORD", "user:PASSWORD@unix(/tmp/s)/db?tls=PASSWORD",
		"u:PASSWORD@PASSWORD(x)/y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		dsn = strings.ReplaceAll(dsn, "PASSWORD", fuzzPassword)
		cfg, err := parseDSN(dsn)
		if err != nil {
			hintsSafely(t, err)
			return
		}
		if cfg.DBName == "" {
			t.Errorf("a DSN without database was taken: %q", dsn)
		}
		if strings.Contains(cfg.Addr+cfg.User+cfg.DBName+cfg.Net, fuzzPassword) {
			return // the user put it where it is no password
		}
		for _, cause := range []error{
			&mysql.MySQLError{Number: 1045}, &mysql.MySQLError{Number: 1049},
			&mysql.MySQLError{Number: 1040}, mysql.ErrInvalidConn, errors.New("other"),
			&net.OpError{Op: "dial", Err: errors.New("connection refused")},
		} {
			hintsSafely(t, explain(cause, cfg))
		}
	})
}

func FuzzGrant(f *testing.F) {
	for _, seed := range []string{
		`{"token":"PASSWORD"}`, `{"refresh_token":"PASSWORD","lifetime":"1h"}`,
		`{"lifetime":"PASSWORD"}`, `{"PASSWORD":1}`, `{"token":"PASSWORD"`,
		`{"extra":{"a":"PASSWORD"}}`, `{"token":{"PASSWORD":1}}`,
		`PASSWORD`, `[]`, `null`, ``, `{} PASSWORD`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "PASSWORD", fuzzPassword)
		if _, err := parseGrant([]byte(text), "on stdin"); err != nil {
			hintsSafely(t, err)
		}
	})
}

// Each key is read back from what is printed for it, so that no two keys are printed alike.
func FuzzParseKey(f *testing.F) {
	for _, key := range []credentials.Key{
		{Service: "a/b", Account: "c"}, {Service: "a", Account: "b/c"}, {Service: "a/b"},
		{Service: "a", Account: `"b"`}, {Service: "github", Account: "alice@example.com"},
		{Service: "a", Account: "b\u202e\xff\n"}, {Service: `"`, Account: `"/"`}, {},
	} {
		f.Add(key.Service, key.Account)
	}
	f.Fuzz(func(t *testing.T, service, account string) {
		key := credentials.Key{Service: service, Account: account}
		text := key.String()
		if got, err := parseKey(text); err != nil || got != key {
			t.Errorf("%q is printed as %s, and read back as %q, error %v", key, text, got, err)
		}
		for _, r := range text {
			garbled := r == utf8.RuneError && !strings.ContainsRune(service+account, r)
			if garbled || unicode.In(r, unicode.Cc, unicode.Bidi_Control) {
				t.Errorf("%q is printed with %U in it", key, r)
			}
		}
	})
}

func TestParseKey(t *testing.T) {
	for text, want := range map[string]credentials.Key{
		`github`:                   {Service: "github"},
		`github/`:                  {Service: "github"},
		`github/alice@example.com`: {Service: "github", Account: "alice@example.com"},
		`a/b/c`:                    {Service: "a", Account: "b/c"},
		`"a/b"/c`:                  {Service: "a/b", Account: "c"},
		`"a/b"`:                    {Service: "a/b"},
		`a/"b\u00a0c"`:             {Service: "a", Account: "b\u00a0c"},
	} {
		if got, err := parseKey(text); err != nil || got != want {
			t.Errorf("%s: got %q, error %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`"a/b`, `"a"b`, `a/"b`, `a/"b"c`} {
		if got, err := parseKey(text); !errors.Is(err, credentials.ErrInvalidKey) {
			t.Errorf("%s: got %q, error %v; want ErrInvalidKey", text, got, err)
		}
	}
}

// hintsSafely checks an error's text: one line that says something, and not the password.
func hintsSafely(t *testing.T, err error) {
	t.Helper()
	text := oneLine(err)
	if len(text) < 10 || strings.Contains(text, fuzzPassword) {
		t.Errorf("got the error %q", text)
	}
}
