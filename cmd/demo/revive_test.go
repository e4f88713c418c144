package main

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

func TestRevive(t *testing.T) {
	useServer(t, "revive")
	p := startProvider(t, provider.Options{})
	ok(t, "", "migrate", "up")
	putDue(t, p, "xero", "alice", "bob")
	for _, account := range []string{"carol", "dave"} { // whom the provider does not know
		ok(t, `{"refresh_token": "unknown-`+account+`"}`, "put", "xero", account)
	}
	ok(t, "", append([]string{"refresh", "--due"}, providerArgs(p, "xero")...)...)
	fields{"state": "dead"}.in(t, ok(t, "", "get", "xero", "carol"))

	demo(t, "", "revive", "--service", "xero", "--since", "1h", "--dry-run").ends(0).
		shows("xero/carol\n", "xero/dave\n", "2 grants of xero to revive\n").hides("alice", "unknown-")
	fields{"state": "dead"}.in(t, ok(t, "", "get", "xero", "carol"))
	demo(t, "", "revive", "--service", "github", "--since", "1h").ends(0).shows("0 grants of github revived")
	demo(t, "", "revive", "--service", "xero", "--since", time.Now().Add(-time.Hour).Format(time.RFC3339)).ends(0).
		shows("xero/carol\n", "2 grants of xero revived\n")
	fields{"state": "no token yet"}.in(t, ok(t, "", "get", "xero", "carol"))
	fields{"revived": 0.0, "dry_run": false, "service": "xero"}.in(t, ok(t, "", "revive", "--service", "xero", "--since", "1h"))
}

func TestReviveCommandLines(t *testing.T) {
	useNoServer(t, "1")
	fail(t, exitUsage, "", map[string]line{
		"no service":       {"revive|--since|1h", "--since is for --service"},
		"odd service":      {"revive|--service|x ero|--since|1h", "service name"},
		"no time":          {"revive|--service|xero", "--since is missing"},
		"unreadable time":  {"revive|--service|xero|--since|yesterday", "2026-05-04T14:05:00Z"},
		"time to come":     {"revive|--service|xero|--since|2926-05-04T14:05:00Z", "not in the past"},
		"negative time":    {"revive|--service|xero|--since|-1h", "not in the past"},
		"no rate":          {"revive|--service|xero|--since|1h|--rate|0", "more than 0"},
		"takes no account": {"revive|--service|xero|--since|1h|alice", "takes no arguments"},
	})
}
