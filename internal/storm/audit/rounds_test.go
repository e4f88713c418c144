package audit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// served is a round in which all callers of two accounts and two processes got their token.
func served(stats provider.Stats) audit.Round {
	round := audit.Round{
		Results: make(map[int]wire.Result), Rows: []audit.Row{{Token: "a"}, {Token: "b"}}, Stats: stats,
	}
	for worker := 1; worker <= 2; worker++ {
		var callers []wire.Record
		for range 2 {
			callers = append(callers, wire.Record{Token: "a"}, wire.Record{Account: 1, Token: "b"})
		}
		round.Results[worker] = wire.Result{Callers: callers}
	}
	return round
}

// presented is a presentation of an account's refresh token, from one second to another.
func presented(
	account string, serial int64, start, end int, o provider.Outcome,
) provider.Presentation {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	return provider.Presentation{
		Account: account, Serial: serial, Outcome: o, Start: at(start), End: at(end),
	}
}

// first and usualSecond are the presentations of two rounds as they should be.
var (
	first = []provider.Presentation{
		presented("a", 1, 0, 2, provider.Issued), presented("b", 2, 1, 3, provider.Issued),
	}
	usualSecond = []provider.Presentation{
		presented("a", 3, 10, 12, provider.Issued), presented("b", 4, 11, 13, provider.Issued),
	}
)

var roundsCases = map[string]struct {
	second []provider.Presentation
	change func(audit.Round) // Changes the second round.
	want   []string
}{
	"as needed": {second: usualSecond},
	"too few": {
		second: usualSecond[:1], want: []string{"the endpoint got 3 calls where 4 were needed"},
	},
	"one account twice, the other not": {
		second: []provider.Presentation{usualSecond[0], presented("a", 5, 13, 14, provider.Issued)},
		want:   []string{"1 exchanges too many: the same account again in the same round"},
	},
	"at the same moment": {
		second: append(slices.Clone(usualSecond), presented("b", 4, 12, 14, provider.Reused)),
		want: []string{
			"the endpoint got 5 calls where 4 were needed",
			"1 exchanges too many: the same account again in the same round",
			"the endpoint detected the reuse of a refresh token 1 times",
			"2 exchanges of one account were under way at the same moment",
		},
	},
	"nobody's token": {
		second: append(slices.Clone(usualSecond), presented("", 0, 20, 21, provider.NeverWas)),
		want:   []string{"the endpoint got 5 calls where 4 were needed"},
	},
	"a caller failed, and another got a token that is not in the row": {
		second: usualSecond,
		change: func(round audit.Round) {
			round.Results[2].Callers[0] = wire.Record{Class: wire.Untyped, Text: "out of luck"}
			round.Results[2].Callers[1].Token = "c"
		},
		want: []string{
			"round 2, worker 2: 1 callers failed: out of luck",
			"round 2, worker 2: 1 callers got a token of b that is not the one in its row",
			"1 of 16 callers got no token",
		},
	},
	"connections": {
		second: usualSecond,
		change: func(round audit.Round) {
			round.Results[1] = wire.Result{
				Callers: round.Results[1].Callers, Held: 1, Unattributed: 2, InUse: 3,
			}
		},
		want: []string{
			"worker 1: 2 times it could not be told whether an exchange held a connection: " +
				"one was asked for in nobody's name",
			"a call held 1 connections during its exchange",
			"3 connections were in use after a manager had been closed",
		},
	},
	"a worker died": {
		second: usualSecond,
		change: func(round audit.Round) { delete(round.Results, 1) },
		want:   []string{"4 of 16 callers got no token"},
	},
}

func TestRoundsHoldTheRecordAgainstWhatWasNeeded(t *testing.T) {
	for name, test := range roundsCases {
		t.Run(name, func(t *testing.T) {
			stats := provider.Summarize(slices.Concat(first, test.second))
			rounds := []audit.Round{served(provider.Summarize(first)), served(stats)}
			if test.change != nil {
				test.change(rounds[1])
			}
			r := report.New(stats, []string{"a", "b"})
			r.Processes, r.Threads, r.Rounds = 2, 2, 2
			audit.Rounds(&r, rounds)
			if !slices.Equal(r.Violations, test.want) || r.OK != (len(test.want) == 0) {
				t.Errorf("OK = %v, violations = %q, want %q", r.OK, r.Violations, test.want)
			}
		})
	}
}
