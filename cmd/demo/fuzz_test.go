package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// A password that stands anywhere in what was given must not come back in an error.
const fuzzPassword = "correct-horse-battery-staple"

func FuzzDSNHints(f *testing.F) {
	for _, seed := range []string{
		"user:PASSWORD@tcp(127.0.0.1:3306)/db", "mysql://user:PASSWORD@127.0.0.1/db", "user:PASSWORD@127.0.0.1:3306/db",
		"user:PASSWORD@tcp(127.0.0.1:3306)", "user:PASSWORD@tcp(127.0.0.1:3306)/", "PASSWORD", "@/db", "/", "",
		"user:PASSWORD@tcp(h)/db?parseTime=PASSWORD", "user:PASSWORD@unix(/tmp/s)/db?tls=PASSWORD", "u:PASSWORD@PASSWORD(x)/y",
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
			&mysql.MySQLError{Number: 1045}, &mysql.MySQLError{Number: 1049}, &mysql.MySQLError{Number: 1040},
			&net.OpError{Op: "dial", Err: errors.New("connection refused")}, mysql.ErrInvalidConn, errors.New("other"),
		} {
			hintsSafely(t, explain(cause, cfg))
		}
	})
}

func FuzzGrant(f *testing.F) {
	for _, seed := range []string{
		`{"token":"PASSWORD"}`, `{"refresh_token":"PASSWORD","lifetime":"1h"}`, `{"lifetime":"PASSWORD"}`, `{"PASSWORD":1}`,
		`{"token":"PASSWORD"`, `{"extra":{"a":"PASSWORD"}}`, `{"token":{"PASSWORD":1}}`, `PASSWORD`, `[]`, `null`, ``, `{} PASSWORD`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseGrant([]byte(strings.ReplaceAll(text, "PASSWORD", fuzzPassword)), "on stdin"); err != nil {
			hintsSafely(t, err)
		}
	})
}

// hintsSafely checks an error's text: one line that says something, and not the password.
func hintsSafely(t *testing.T, err error) {
	t.Helper()
	text := oneLine(err)
	if len(text) < 10 || strings.Contains(text, fuzzPassword) {
		t.Errorf("got the error %q", text)
	}
}
