package storm_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
)

const nowhere = "root:hunter2@tcp(127.0.0.1:1)/x"

func TestConfigsThatMakeNoSense(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		cfg  storm.Config
		want string
	}{
		"negative":         {storm.Config{Processes: -1}, "processes: -1 is not between 1 and 256"},
		"too many callers": {storm.Config{Threads: 10_000, Accounts: 10_000}, "threads × accounts"},
		"negative latency": {storm.Config{Latency: -1}, "must not be negative"},

		"two faults":           {storm.Config{Pause: true, Chaos: true}, "choose one"},
		"unknown kill":         {storm.Config{Kill: "gently"}, "after-claim, exchange and before-save"},
		"unknown restart":      {storm.Config{Restart: "later"}, "claim, exchange and save"},
		"unknown reuse":        {storm.Config{Pause: true, Reuse: "never"}, "grace and revoke"},
		"rate":                 {storm.Config{Chaos: true, FaultRate: 2}, "0 to 1"},
		"chaos in one process": {storm.Config{Chaos: true, Processes: 1}, "at least 2 processes"},
		"negative outage":      {storm.Config{Chaos: true, Outage: -1}, "must not be negative"},
		"outage by itself":     {storm.Config{Outage: s}, "for chaos and restart"},
		"very slow":            {storm.Config{Pause: true, Latency: time.Hour}, "at most 10s"},

		"a lifetime alone":   {storm.Config{Lifetime: 10 * s}, "no number of lifetimes"},
		"negative lifetimes": {storm.Config{Lifetimes: -1}, "-1 is not between"},
		"short":              {storm.Config{Lifetimes: 1, Lifetime: s}, "at least 2s, since"},
		"negative lifetime":  {storm.Config{Lifetimes: 1, Lifetime: -s}, "at least 2s"},
		"long":               {storm.Config{Lifetimes: 1, Lifetime: 25 * time.Hour}, "at most 24h"},
		"fractions":          {storm.Config{Lifetimes: 1, Lifetime: 5 * s / 2}, "whole seconds"},
		"slow endpoint": {
			storm.Config{Lifetimes: 1, Lifetime: 2 * s, Latency: s/5 + 1}, "may take half",
		},
		"lifetimes and faults": {storm.Config{Lifetimes: 1, Pause: true}, "together with kill"},
		"lifetimes and rounds": {storm.Config{Lifetimes: 1, Rounds: 2}, "together with rounds"},
		"too little time":      {storm.Config{Lifetimes: 3, Timeout: 30 * s}, "30s is not longer"},

		"default lifetimes":     {storm.Config{Lifetimes: storm.DefaultLifetimes}, ""},
		"the shortest lifetime": {storm.Config{Lifetimes: 1, Lifetime: 2 * s}, ""},
		"defaults":              {storm.Config{}, ""},
	} {
		err := test.cfg.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Check = %v, want %q", name, err, test.want)
		}
	}
}

func TestStormRefusesAServer(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  storm.Config
		want string
	}{
		"no DSN":         {storm.Config{}, "no DSN"},
		"unreadable DSN": {storm.Config{DSN: "root:hunter2@tcp(localhost"}, "the DSN cannot be read"},
		"a small server": {storm.Config{DSN: database(t), Pool: 1000}, "choose a smaller pool"},
		"no such size":   {storm.Config{DSN: nowhere, Pool: -1}, "pool: -1 is not between"},
		"no server":      {storm.Config{DSN: nowhere}, "refused"},
	} {
		_, err := storm.Run(t.Context(), test.cfg)
		if err == nil || !strings.Contains(err.Error(), test.want) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: Run = %v, want %q and no password", name, err, test.want)
		}
	}
	for _, cfg := range []storm.Config{
		{DSN: nowhere, Restart: storm.RestartAtSave},
		{DSN: nowhere, Chaos: true, Outage: time.Second},
	} {
		if _, err := storm.Run(t.Context(), cfg); !errors.Is(err, storm.ErrNoDatabase) {
			t.Errorf("Run of another's server = %v, want ErrNoDatabase", err)
		}
	}
}
