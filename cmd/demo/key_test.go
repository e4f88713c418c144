package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/internal/testkit"
)

// newKeysetFile has the command make a keyset, and returns the file and the id of the key.
func newKeysetFile(t *testing.T) (name string, id uint32) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "keyset.json")
	made := ok(t, "", "key", "new", "--keyset", name)
	fields{"keyset": name}.in(t, made)
	return name, uint32(made["key"].(float64))
}

// keyMaterials are the keys in the file, in the forms in which they could be printed.
func keyMaterials(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	forms, err := testkit.KeyMaterial(text)
	must(t, err)
	return forms
}

// listedKeys is what `key list` shows.
func listedKeys(t *testing.T, args ...string) string {
	t.Helper()
	var b strings.Builder
	for _, key := range ok(t, "", append([]string{"key", "list"}, args...)...)["keys"].([]any) {
		key := key.(map[string]any)
		fmt.Fprintf(&b, "%.0f %s %v\n", key["id"], key["status"], key["primary"])
	}
	return b.String()
}

func isListed(t *testing.T, name string, want ...string) {
	t.Helper()
	if got := listedKeys(t, "--keyset", name); got != strings.Join(want, "") {
		t.Errorf("key list: got\n%swant\n%s", got, strings.Join(want, ""))
	}
}

// TestKeyRotation goes through the steps of a rotation. No output has a key in it.
func TestKeyRotation(t *testing.T) {
	useNoServer(t, "1")
	name, first := newKeysetFile(t)
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("the keyset file has the mode %v (%v), want 0600", info.Mode(), err)
	}
	demo(t, "", "key", "new", "--keyset", name).ends(exitFailed).says("there is a file " + name)
	demo(t, "", "key", "rotate", "--promote", "--keyset", name).ends(exitFailed).
		says("is the primary already", "--add")
	isListed(t, name, fmt.Sprintf("%d enabled true\n", first))

	second := uint32(ok(t, "", "key", "rotate", "--add", "--keyset", name)["key"].(float64))
	isListed(t, name, fmt.Sprintf("%d enabled true\n", first), fmt.Sprintf("%d enabled false\n", second))
	demo(t, "", "key", "rotate", "--promote", "--keyset", name).ends(0).
		shows(fmt.Sprintf("the key %d of %s seals from now on", second, name))
	isListed(t, name, fmt.Sprintf("%d enabled false\n", first), fmt.Sprintf("%d enabled true\n", second))
	demo(t, "", "key", "rotate", "--promote", fmt.Sprint(first), "--keyset", name).ends(0)
	isListed(t, name, fmt.Sprintf("%d enabled true\n", first), fmt.Sprintf("%d enabled false\n", second))
	both := ok(t, "", "key", "rotate", "--add", "--promote", "--keyset", name)
	fields{"added": true, "primary": true}.in(t, both)
	demo(t, "", "key", "list", "--keyset", name).ends(0).
		shows(fmt.Sprintf("%-10.0f  primary\n", both["key"]), fmt.Sprintf("%-10d  enabled\n", first)).
		hides(keyMaterials(t, name)...)
	for _, args := range [][]string{
		{"key", "list"}, {"key", "rotate", "--add"}, {"key", "rotate", "--promote"}, {"key", "new"}, {"list"},
		{"key", "rotate", "--promote", "7"}, {"key", "list", "--json"}, {"key", "rotate", "--add", "--json"},
	} {
		demo(t, "", append(args, "--keyset", name)...).hides(keyMaterials(t, name)...)
	}
}

// TestKeysetInTheEnvironment: the variable holds a keyset itself, and --keyset goes before it.
func TestKeysetInTheEnvironment(t *testing.T) {
	useNoServer(t, "1")
	name, id := newKeysetFile(t)
	text, err := os.ReadFile(name)
	must(t, err)
	demo(t, "", "key", "list").ends(exitUsage).says("there is no keyset", "--keyset", keysetEnv)
	t.Setenv(keysetEnv, string(text))
	if got, want := listedKeys(t), fmt.Sprintf("%d enabled true\n", id); got != want {
		t.Errorf("key list: got %q, want %q", got, want)
	}
	other, otherID := newKeysetFile(t)
	isListed(t, other, fmt.Sprintf("%d enabled true\n", otherID))

	t.Setenv(keysetEnv, "")
	demo(t, "", "key", "list").ends(exitFailed).says("$"+keysetEnv, "is empty")
	t.Setenv(keysetEnv, name)
	demo(t, "", "key", "list").ends(exitFailed).says("$"+keysetEnv, "--keyset names a file")
	damaged := regexp.MustCompile(`"value":\s*"`).ReplaceAllString(string(text), `"value":"!`)
	t.Setenv(keysetEnv, damaged) // a parser may quote the value
	demo(t, "", "key", "list").ends(exitFailed).says("$" + keysetEnv).hides(keyMaterials(t, name)...)
}

func TestKeyCommandLines(t *testing.T) {
	useNoServer(t, "1")
	name, _ := newKeysetFile(t)
	missing := filepath.Join(t.TempDir(), "none")
	rotate := "key|rotate|--keyset|" + name
	fail(t, exitUsage, "", map[string]line{
		"no subcommand of key": {"key|turn", "there are new, rotate, list"},
		"no file":              {"key|new", "--keyset is missing"},
		"empty file name":      {"key|new|--keyset|", "--keyset is empty"},
		"empty name of list":   {"key|list|--keyset|", "--keyset is empty"},
		"argument of new":      {"key|new|" + name, "takes no arguments"},
		"argument of list":     {"key|list|" + name, "takes no arguments"},
		"no step":              {rotate, "--add first"},
		"argument of add":      {rotate + "|--add|7", "with --promote alone"},
		"two keys":             {rotate + "|--promote|7|8", "at most the id of one key"},
		"no id":                {rotate + "|--promote|seven", `"seven" is no id`},
		"id is too large":      {rotate + "|--promote|4294967296", "is no id"},
		"id is zero":           {rotate + "|--promote|0", "is no id"},
	})
	must(t, os.Chmod(name, 0o644))
	fail(t, exitFailed, "", map[string]line{
		"no such file":    {"key|list|--keyset|" + missing, "demo key new --keyset " + missing},
		"open to others":  {"key|list|--keyset|" + name, "chmod 600 " + name},
		"rotate of none":  {"key|rotate|--add|--keyset|" + missing, "there is no keyset file"},
		"rotate of those": {rotate + "|--add", "chmod 600"},
	})
	must(t, os.Chmod(name, 0o600))
	fail(t, exitFailed, "", map[string]line{"no such key": {rotate + "|--promote|7", "has no key 7"}})
}

// TestStoreFlags: tokens are sealed under --keyset, and the flags that cannot work are refused
// before a server is asked for.
func TestStoreFlags(t *testing.T) {
	useServer(t, "storeflags")
	name, id := newKeysetFile(t)
	other, _ := newKeysetFile(t)
	sealed := []string{"--keyset", name, "--deployment", "production"}
	with := func(args ...string) []string { return append(args, sealed...) }
	ok(t, "", "migrate", "up")
	demo(t, `{"token": "hunter2-alice", "lifetime": "1h"}`, with("put", "xero", "alice")...).ends(0).
		hides("unsealed")
	demo(t, `{"token": "hunter2-bob", "lifetime": "1h"}`, "put", "xero", "bob").ends(0).says("unsealed")

	token := func(args ...string) any { return ok(t, "", with(append(args, "--reveal")...)...)["token"] }
	if got := token("get", "xero", "alice"); got != "hunter2-alice" {
		t.Errorf("the sealed token is shown as %v", got)
	}
	if got := token("get", "xero", "bob"); got != "hunter2-bob" {
		t.Errorf("the plain token is shown as %v", got)
	}
	t.Setenv(deploymentEnv, "production")
	for _, test := range []struct{ name, want string }{
		{"get|xero|alice", "--keyset"},
		{"get|xero|alice|--keyset|" + other, fmt.Sprintf("sealed under key %d", id)},
		{"get|xero|alice|--deployment|staging", `is of the deployment "production"`},
		{"get|xero|bob|--require-sealed|--keyset|" + name, "--require-sealed refuses plain ones"},
	} {
		demo(t, "", strings.Split(test.name, "|")...).ends(exitFailed).says(test.want).
			hides("hunter2", "Options.").hides(keyMaterials(t, name)...)
	}
	demo(t, "", "list").ends(0).shows("alice", "bob").hides("hunter2")
}

func TestStoreFlagsThatCannotWork(t *testing.T) {
	useNoServer(t, "1")
	name, _ := newKeysetFile(t)
	fail(t, exitUsage, "", map[string]line{
		"sealed without keys": {"list|--require-sealed", "--keyset"},
		"empty deployment":    {"list|--deployment|", "--deployment is empty"},
		"empty keyset":        {"list|--keyset|", "--keyset is empty"},
	})
	fail(t, exitFailed, "", map[string]line{
		"no keyset": {"list|--keyset|" + name + ".none", "demo key new"},
	})
}
