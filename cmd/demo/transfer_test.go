package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// TestExportAndImportSealed moves credentials to another table of the same deployment.
func TestExportAndImportSealed(t *testing.T) {
	useServer(t, "exported")
	keys, _ := newKeysetFile(t)
	sealed := []string{"--keyset", keys, "--deployment", "production"}
	with := func(args ...string) []string { return append(sealed[:len(sealed):len(sealed)], args...) }
	ok(t, "", "migrate", "up")
	ok(t, `{"token": "SECRET-1", "lifetime": "1h", "refresh_token": "SECRET-2", "extra": {"tenant": "SECRET-3"}}`,
		with("put", "xero", "alice")...)
	ok(t, `{"refresh_token": "SECRET-4"}`, with("put", "xero", "bob")...)
	ok(t, "", with("disable", "xero", "bob", "--by", "ann")...)

	file := filepath.Join(t.TempDir(), "xero.jsonl")
	fields{"exported": 2.0, "left_out": 0.0, "plain": false}.in(t, ok(t, "", with("export", "xero", "--to", file)...))
	demo(t, "", with("export", "--to", file)...).ends(exitFailed).says("file exists")
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the export has the mode %v (%v), want 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	if strings.Contains(string(text), "U0VDUkVU") { // SECRET
		t.Errorf("the sealed export has a plain value: %s", text)
	}

	useServer(t, "imported")
	ok(t, "", "migrate", "up")
	fields{"imported": 2.0, "dry_run": true}.in(t, ok(t, "", with("import", "--from", file, "--dry-run")...))
	demo(t, "", "list").ends(0).shows("no credentials")
	demo(t, "", with("import", "--from", file, "--by", "ann")...).ends(0).
		shows("xero/alice imported", "2 imported, 0 replaced, 0 kept, 0 refused").says("by=ann")
	alice := ok(t, "", with("get", "xero", "alice", "--reveal")...)
	fields{"state": "fresh", "token": "SECRET-1", "refresh_token": "SECRET-2"}.in(t, alice)
	fields{"tenant": "SECRET-3"}.in(t, alice["extra"])
	if left := alice["expires_in"].(float64); left > 3600 || left < 3000 {
		t.Errorf("the token expires in %v s, want what was left of an hour", left)
	}
	bob := ok(t, "", with("get", "xero", "bob")...)
	fields{"state": "disabled", "due_in": nil}.in(t, bob)
	fields{"by": "ann"}.in(t, bob["disabled"])

	// Again: nothing is replaced, unless that is asked for.
	fields{"imported": 0.0, "kept": 2.0}.in(t, ok(t, "", with("import", "--from", file)...))
	ok(t, `{"refresh_token": "SECRET-5"}`, with("put", "xero", "alice")...)
	fields{"replaced": 2.0}.in(t, ok(t, "", with("import", "--from", file, "--replace")...))
	fields{"refresh_token": "SECRET-2"}.in(t, ok(t, "", with("get", "xero", "alice", "--reveal")...))

	// Other keys, no keys, another deployment: each line is refused by name and not written.
	useServer(t, "imported")
	ok(t, "", "migrate", "up")
	others, _ := newKeysetFile(t)
	for name, test := range map[string]line{
		"other keys":         {"--keyset|" + others + "|--deployment|production", "no key of this process opens it"},
		"no keys":            {"--deployment|production", "this process has no key"},
		"another deployment": {"--keyset|" + keys + "|--deployment|staging", "is of the deployment"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(strings.Split(test.args, "|"), "import", "--from", file)
			demo(t, "", args...).ends(exitFailed).shows("xero/alice refused", test.want, "2 refused").hides("SECRET")
		})
	}
	demo(t, "", "list").ends(0).shows("no credentials")
}

// TestExportPlain: what is not sealed is left out, and reported, unless it is to be revealed.
func TestExportPlain(t *testing.T) {
	store := useStore(t, "plain")
	held := claim(t, store, "died", time.Microsecond)
	must(t, store.Release(t.Context(), held.Fence()))
	held = claim(t, store, "dead", time.Hour)
	must(t, store.Fail(t.Context(), held.Fence(), credentials.Failure{
		Class: credentials.ClassDead, Code: "invalid_grant", Reason: "revoked",
	}))
	ok(t, `{"token": "SECRET-2", "lifetime": "1h"}`, "put", "xero", "bob")
	claimed, err := store.Claim(t.Context(), credentials.Key{Service: "xero", Account: "bob"},
		credentials.Claim{ID: "underway", Holder: "web-2", Lease: time.Hour, Invalidated: tokenOf(t, store, "bob")})
	must(t, err)
	if claimed.Lease.ID != "underway" {
		t.Fatalf("the claim was not made: %+v", claimed.Lease)
	}

	demo(t, "", "export").ends(exitFailed).says("xero/alice is not sealed", "--reveal", "0 credentials exported, 2 left out")
	plain := demo(t, "", "export", "xero", "--reveal").ends(0).says("2 credentials exported")
	if got := strings.Count(plain.stdout, "\n"); got != 2 {
		t.Fatalf("export --reveal: %d lines, want 2:\n%s", got, plain.stdout)
	}
	var first transfer
	must(t, json.Unmarshal([]byte(strings.Split(plain.stdout, "\n")[0]), &first))
	if string(first.RefreshToken) != "SECRET" || first.Sealed {
		t.Errorf("export --reveal: got %+v", first)
	}

	useServer(t, "plain2")
	ok(t, "", "migrate", "up")
	fields{"imported": 2.0}.in(t, ok(t, plain.stdout, "import"))
	c := ok(t, "", "get", "xero", "alice")
	fields{"state": "dead"}.in(t, c)
	fields{"code": "invalid_grant", "reason": "revoked", "by": "web-1"}.in(t, c["failure"])
	c = ok(t, "", "get", "xero", "bob")
	fields{"state": "fresh", "lease": nil}.in(t, c)
	fields{"by": "web-2"}.in(t, c["interrupted"])
}

// TestImportRefusesWhatItCannotRead: no error quotes the line.
func TestImportRefusesWhatItCannotRead(t *testing.T) {
	useStore(t, "bad")
	for name, test := range map[string]struct{ text, want string }{
		"no JSON":      {"SECRET", "line 1 of the import"},
		"no service":   {`{"account": "SECRET"}`, "line 1 of the import"},
		"no base64":    {"\n" + `{"service": "xero", "access_token": "SECRET!"}`, "line 2 of the import"},
		"a large line": {`{"service": "` + strings.Repeat("x", maxTransfer) + `"}`, "read the import"},
	} {
		t.Run(name, func(t *testing.T) {
			demo(t, test.text, "import").ends(exitFailed).says(test.want).hides("SECRET")
		})
	}
	for name, text := range map[string]string{
		"odd extra":           `{"service": "xero", "account": "bob", "extra": "WzFd"}`,
		"said to be sealed":   `{"service": "xero", "account": "bob", "sealed": true, "access_token": "YQ=="}`,
		"odd name":            `{"service": "x ero", "account": "bob"}`,
		"ended refresh token": `{"service": "xero", "account": "bob", "refresh_token": "YQ==", "refresh_expires": "2020-01-01T00:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			demo(t, text, "import").ends(exitFailed).shows("refused", "1 refused")
		})
	}
	if left := ok(t, "", "list")["credentials"].([]any); len(left) != 1 {
		t.Errorf("%d credentials are there, want alice's alone", len(left))
	}
	fail(t, exitUsage, "", map[string]line{
		"JSON on stdout":     {"export|--json", "--to FILE"},
		"two services":       {"export|a|b|--to|x", "at most a service"},
		"argument of import": {"import|xero", "takes no arguments"},
	})
	fail(t, exitFailed, "", map[string]line{"no file": {"import|--from|" + fmt.Sprint(t.TempDir(), "/none"), "no such file"}})
}

// tokenOf names the token of an account of xero.
func tokenOf(t *testing.T, store *mysql.Store, account string) credentials.TokenID {
	t.Helper()
	c, err := store.Get(t.Context(), credentials.Key{Service: "xero", Account: account})
	must(t, err)
	return c.TokenID()
}
