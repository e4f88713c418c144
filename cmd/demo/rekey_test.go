package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// putSealed puts a token for each account, with these flags of the store.
func putSealed(t *testing.T, flags []string, accounts ...string) {
	t.Helper()
	for _, account := range accounts {
		grant := `{"token": "hunter2-` + account + `", "refresh_token": "hunter2", "lifetime": "1h"}`
		ok(t, grant, append([]string{"put", "xero", account}, flags...)...)
	}
}

// keyRows is the number of rows under each key, as rekey's JSON has it.
func keyRows(object map[string]any) string {
	return fmt.Sprint(object["keys"].(map[string]any)["rows"])
}

// TestRekey is a rotation with rows: none, old and new ones, and one that no key opens.
func TestRekey(t *testing.T) {
	useServer(t, "rekey")
	ok(t, "", "migrate", "up")
	name, first := newKeysetFile(t)
	foreign, foreignID := newKeysetFile(t)
	sealed := []string{"--keyset", name}
	with := func(args ...string) []string { return append(args, sealed...) }
	putSealed(t, nil, "plain")
	putSealed(t, sealed, "old 1", "old 2")
	second := uint32(ok(t, "", with("key", "rotate", "--add")...)["key"].(float64))
	demo(t, "", with("key", "retire", fmt.Sprint(first))...).ends(exitFailed).says("is the primary")
	ok(t, "", with("key", "rotate", "--promote")...)
	putSealed(t, sealed, "new")

	retireFirst := with("key", "retire", fmt.Sprint(first))
	demo(t, "", retireFirst...).ends(exitFailed).
		says(fmt.Sprintf("the key %d is needed: 2 rows", first), "demo rekey")
	isListed(t, name, fmt.Sprintf("%d enabled false\n", first), fmt.Sprintf("%d enabled true\n", second))

	dry := demo(t, "", with("rekey", "--dry-run")...).ends(exitFailed).shows(
		"4 rows read: 3 to be re-sealed, 1 in order, 0 left", "1 row not sealed\n",
		fmt.Sprintf("2 rows under the key %d\n", first), fmt.Sprintf("1 row under the key %d, the primary\n", second))
	dry.hides(keyMaterials(t, name)...).hides("hunter2")
	demo(t, "", with("rekey")...).ends(0).shows("3 re-sealed, 1 in order",
		fmt.Sprintf("4 rows under the key %d, the primary\n", second)).hides("not sealed", "hunter2")
	done := ok(t, "", with("rekey")...)
	fields{"ok": true, "written": 0.0, "current": 4.0, "left": 0.0}.in(t, done)
	if got, want := keyRows(done), fmt.Sprintf("map[%d:4]", second); got != want {
		t.Errorf("rows by key: got %s, want %s", got, want)
	}
	demo(t, "", retireFirst...).ends(0).shows("retired the key")
	isListed(t, name, fmt.Sprintf("%d retired false\n", first), fmt.Sprintf("%d enabled true\n", second))
	ok(t, "", append(retireFirst, "--undo")...)
	ok(t, "", append(retireFirst, "--delete")...)
	isListed(t, name, fmt.Sprintf("%d enabled true\n", second))

	// A row that no key opens is named, and the others are sealed all the same.
	putSealed(t, []string{"--keyset", foreign}, "lost")
	putSealed(t, nil, "plain too")
	demo(t, "", with("rekey")...).ends(exitFailed).shows("1 that no key opens", "xero/lost: ",
		fmt.Sprintf("sealed under key %d", foreignID), fmt.Sprintf("5 rows under the key %d", second)).
		hides("hunter2").hides(keyMaterials(t, foreign)...)
	demo(t, "", with("get", "xero", "plain too", "--reveal")...).ends(0).shows("hunter2-plain too")
	putSealed(t, sealed, "lost") // a new grant takes its place
	fields{"ok": true}.in(t, ok(t, "", with("rekey")...))
}

// TestKeyRetireWithoutServer: without the table nobody knows whether a key is needed; --force does
// not ask.
func TestKeyRetireWithoutServer(t *testing.T) {
	useNoServer(t, "1")
	name, first := newKeysetFile(t)
	second := uint32(ok(t, "", "key", "rotate", "--add", "--promote", "--keyset", name)["key"].(float64))
	retire := []string{"key", "retire", fmt.Sprint(first), "--keyset", name}
	demo(t, "", retire...).ends(exitFailed).says("no server")
	isListed(t, name, fmt.Sprintf("%d enabled false\n", first), fmt.Sprintf("%d enabled true\n", second))
	fields{"status": "retired"}.in(t, ok(t, "", append(retire, "--force")...))
	isListed(t, name, fmt.Sprintf("%d retired false\n", first), fmt.Sprintf("%d enabled true\n", second))
}

// TestRekeyGoesOnWhereItStopped: an interrupt ends the command, which says where to go on.
func TestRekeyGoesOnWhereItStopped(t *testing.T) {
	useServer(t, "rekeystop")
	ok(t, "", "migrate", "up")
	name, id := newKeysetFile(t)
	putSealed(t, nil, "alice", "bob", "carol")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rekey := begin(ctx, t, "rekey", "--json", "--keyset", name, "--batch", "1", "--rate", "0.001")
	for {
		var look map[string]any
		must(t, json.Unmarshal(
			[]byte(demo(t, "", "rekey", "--dry-run", "--json", "--keyset", name).stdout), &look))
		if keyRows(look) == fmt.Sprintf("map[%d:1]", id) {
			break // and sleeps until its next row is due
		}
		if ctx.Err() != nil {
			t.Fatalf("no row was sealed: %v", look)
		}
	}
	must(t, rekey.cmd.Process.Signal(os.Interrupt))
	said, _ := rekey.end()
	if status := rekey.cmd.ProcessState.ExitCode(); status != exitInterrupted {
		t.Errorf("the exit status is %d, want %d", status, exitInterrupted)
	}
	var stopped map[string]any
	must(t, json.Unmarshal(rekey.stdout.Bytes(), &stopped))
	fields{"ok": false, "written": 1.0}.in(t, stopped)
	after := fmt.Sprintf("--after %.0f", stopped["after"])
	if !strings.Contains(said, "demo rekey "+after) {
		t.Errorf("the command says %q, want %q", said, after)
	}
	rest := ok(t, "", "rekey", "--keyset", name, "--after", fmt.Sprintf("%.0f", stopped["after"]))
	fields{"ok": true, "rows": 2.0, "written": 2.0}.in(t, rest)
}

// TestAdopt: rows of another deployment are left alone, until somebody adopts them.
func TestAdopt(t *testing.T) {
	useServer(t, "adopt")
	ok(t, "", "migrate", "up")
	name, _ := newKeysetFile(t)
	production := []string{"--keyset", name, "--deployment", "production"}
	staging := []string{"--keyset", name, "--deployment", "staging"}
	with := func(args ...string) []string { return append(args, staging...) }
	putSealed(t, production, "alice", "bob")
	putSealed(t, staging, "carol")
	demo(t, "", with("get", "xero", "alice")...).ends(exitFailed).says("another deployment").hides("hunter2")
	demo(t, "", with("rekey")...).ends(0).shows("2 of other deployments")

	adopt := with("adopt", "--from", "production")
	demo(t, "", append(adopt, "--dry-run")...).ends(exitFailed).shows("2 to be adopted, 1 in order")
	demo(t, "", adopt...).ends(0).shows("3 rows read: 2 adopted, 1 in order")
	demo(t, "", with("get", "xero", "alice", "--reveal")...).ends(0).shows("hunter2-alice")
	demo(t, "", append([]string{"get", "xero", "alice"}, production...)...).ends(exitFailed).
		says("another deployment")
	fields{"ok": true, "written": 0.0}.in(t, ok(t, "", adopt...))
}

func TestRekeyCommandLines(t *testing.T) {
	useNoServer(t, "1")
	name, id := newKeysetFile(t)
	retire := fmt.Sprintf("key|retire|--keyset|%s|%d|", name, id)
	fail(t, exitUsage, "", map[string]line{
		"argument of rekey":  {"rekey|xero", "takes no arguments"},
		"negative rate":      {"rekey|--rate|-1", "not negative"},
		"no rate":            {"rekey|--rate|NaN", "not negative"},
		"no batch":           {"rekey|--batch|0", "at least 1"},
		"odd row":            {"rekey|--after|-1", "after"},
		"adopt from whom":    {"adopt", "from"},
		"argument of adopt":  {"adopt|--from|production|xero", "takes no arguments"},
		"retire of no key":   {"key|retire|--keyset|" + name, "got 0 arguments"},
		"retire of two keys": {retire + "7", "got 2 arguments"},
		"retire, no file":    {"key|retire|7", "--keyset is missing"},
		"undo and delete":    {retire + "--undo|--delete", "choose one"},
	})
}
