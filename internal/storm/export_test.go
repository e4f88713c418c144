package storm

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/migrations"
)

// Watch wraps a refresher as the workers' is; seen returns what was seen.
func Watch(r credentials.Refresher, c *Connections) (watched credentials.Refresher, seen func() (held, lost int)) {
	w := &watchedRefresher{Refresher: r, connections: c}
	return w, w.seen
}

// Judge is the report of a storm whose callers all got their token, where the endpoint's record was rounds[i] at the
// end of each round.
func Judge(cfg Config, names []string, rounds []provider.Stats) Report {
	l := newLedger(cfg, names)
	for round, stats := range rounds {
		for worker := range cfg.Processes {
			r := result{Round: round + 1}
			for i := range cfg.Threads * len(names) {
				r.Callers = append(r.Callers, outcome{Account: i % len(names), Token: "t"})
			}
			tokens := make([]string, len(names))
			for i := range tokens {
				tokens[i] = "t"
			}
			l.add(worker+1, r, tokens)
		}
		l.endRound(stats)
	}
	return l.report(rounds[len(rounds)-1])
}

// Script is a journal that a test writes, of workers 1 and 2 and one account, which begins with the refresh token "r0".
type Script struct {
	journal   *journal
	presented []presentation
	version   uint64
}

// NewScript returns a journal in which nothing has happened yet.
func NewScript() *Script {
	s := &Script{journal: newJournal(), version: 1}
	s.journal.put(putting{refresh: "r0", start: -2, end: -1})
	return s
}

func (s *Script) add(worker int, r record) *Script {
	s.journal.add(worker, r)
	return s
}

// Claim is made at that time; so are Present, Answer, Save, TurnedDown and Fail.
func (s *Script) Claim(worker int, id string, at int64, found string, lease time.Duration) *Script {
	s.version++
	return s.add(worker, record{Deed: didClaim, Claim: id, Start: at, End: at, Version: s.version, Refresh: found, EndsIn: lease})
}

func (s *Script) Present(worker int, id string, at int64, refresh, next string) *Script {
	s.presented = append(s.presented, presentation{
		Worker: worker, Claim: id, Account: "account-1", Serial: int64(len(refresh) + int(refresh[1])), Refresh: refresh, Start: at, End: at, Next: next,
	})
	return s
}

func (s *Script) Answer(worker int, id string, at int64, token, refresh string) *Script {
	return s.add(worker, record{Deed: didAnswer, Claim: id, Start: at, End: at, Token: token, Refresh: refresh})
}

func (s *Script) Save(worker int, id string, at int64, token, refresh string) *Script {
	return s.SaveUntil(worker, id, at, at, token, refresh)
}

// SaveUntil is a save that is long on its way, of a token that lives for an hour, as Save's does.
func (s *Script) SaveUntil(worker int, id string, from, to int64, token, refresh string) *Script {
	return s.add(worker, record{Deed: didSave, Claim: id, Start: from, End: to, Token: token, Refresh: refresh, Lifetime: time.Hour})
}

// TurnedDown is a save that found something later in the row.
func (s *Script) TurnedDown(worker int, id string, at int64) *Script {
	return s.add(worker, record{Deed: didSave, Claim: id, Start: at, End: at, Class: superseded})
}

func (s *Script) Fail(worker int, id string, at int64) *Script {
	return s.add(worker, record{Deed: didFail, Claim: id, Start: at, End: at})
}

// Call is a caller with a deadline of a second.
func (s *Script) Call(worker int, from, to int64, token string) *Script {
	return s.add(worker, record{Deed: didCall, Start: from, End: to, Deadline: time.Second, Token: token})
}

func (s *Script) Kill(worker int, at int64) *Script {
	s.journal.killed[worker] = at
	return s
}

func (s *Script) Pause(worker int, from, to int64) *Script {
	s.journal.pauses = append(s.journal.pauses, stop{worker: worker, from: from, to: to})
	return s
}

// Violations judges the journal.
func (s *Script) Violations() []string {
	a := newAudit(s.journal, []string{"account-1"}, s.presented)
	a.liveClaims()
	a.late()
	t := &trouble{cfg: Config{Accounts: 1, Chaos: true}, rows: &accounts{names: a.names}, p: provider.New(provider.Options{})}
	r := Report{Faults: &Faults{Errors: make(map[string]int)}}
	_, _, r.Refreshes.Duplicates = a.repeats()
	t.callers(a, &r)
	t.judge(a, &r)
	return r.Violations
}

// Lost exchanges the account's refresh token at the provider and does with the result what it is told to. It returns
// the grants that are lost, that died with their holder, and that were lost with the answer.
func (s *Script) Lost(t *testing.T, p *provider.Provider, db *sql.DB, answered, killed, saved bool) [3]int {
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := newAccounts(db, 1)
	check(err)
	_, err = migrations.Up(ctx, db, nil)
	check(err)
	refresh := p.Register("account-1")
	s.journal.put(putting{refresh: fingerprint(credentials.NewSecret(refresh)), serial: p.Serial(refresh)})
	key := credentials.Key{Service: rows.service, Account: "account-1"}
	check(rows.store.Put(ctx, key, credentials.Grant{RefreshToken: credentials.NewSecret(refresh)}))

	now := history.Now()
	answer := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	p.ServeHTTP(answer, request)
	var granted struct {
		RefreshToken string `json:"refresh_token"`
	}
	check(json.NewDecoder(answer.Body).Decode(&granted))
	next := credentials.NewSecret(granted.RefreshToken)

	s.Claim(1, "a", now, "r0", time.Second)
	one := presentation{Worker: 1, Claim: "a", Account: "account-1", Serial: p.Serial(refresh), Start: now, arrived: time.Now()}
	if answered {
		one.Next = fingerprint(next)
		s.Answer(1, "a", now+1, "t1", one.Next)
	}
	if saved {
		check(rows.store.Put(ctx, key, credentials.Grant{RefreshToken: next}))
		s.Save(1, "a", now+2, "t1", one.Next)
	}
	if killed {
		s.Kill(1, now+3)
	}
	s.presented = append(s.presented, one)
	found, err := newAudit(s.journal, rows.names, s.presented).findLost(ctx, p, rows)
	check(err)
	return [3]int{found.tokens, found.withHolder, found.withAnswer}
}

// LifeIssue is an access token of the one account of a storm over several lifetimes that a test writes. Times count from
// the storm's begin. By is the worker that got it; 0: it was seeded.
type LifeIssue struct {
	Token         string
	By            int
	Presented, At time.Duration
}

// LifeCall is a call in such a storm.
type LifeCall struct {
	Worker        int
	Token         string
	Start, End    time.Duration
	First, Waited bool
	Err           error
}

// JudgeLifetimes judges a storm of workers 1 and 2 and one account, whose row holds that token at the end, which is when
// the workers stop asking.
func JudgeLifetimes(lifetime time.Duration, issues []LifeIssue, calls []LifeCall, row string, newest bool, end time.Duration, stats provider.Stats) Report {
	const begin = int64(time.Hour)
	named := func(token string) string { return fingerprint(credentials.NewSecret(token)) }
	names := []string{"account-1"}
	b := &lifetimesBook{
		ledger:  newLedger(Config{Processes: 2, Threads: 1, Accounts: 1, Lifetimes: 1, Lifetime: lifetime}, names),
		workers: make(map[int]result), issued: make([][]issued, 1), rows: []stored{{named(row), newest}},
	}
	logs := map[int]*callLog{1: newCallLog(names), 2: newCallLog(names)}
	for _, i := range issues {
		one := issued{token: named(i.Token), at: begin + int64(i.At)}
		if i.By > 0 {
			one.presented = begin + int64(i.Presented)
			logs[i.By].own(0, i.Token)
		}
		b.issued[0] = append(b.issued[0], one)
	}
	for _, c := range calls {
		logs[c.Worker].add(0, call{
			token: c.Token, err: c.Err, first: c.First, waited: c.Waited,
			start: begin + int64(c.Start), end: begin + int64(c.End), took: c.End - c.Start,
		})
	}
	for worker, log := range logs {
		b.workers[worker] = result{Asked: log.result(begin + int64(end))}
	}
	return b.report(stats)
}

// EarlyCalls makes that many calls, of that many threads at a time, for the same token, and returns of how many the log
// knows when they began.
func EarlyCalls(calls, threads int) int {
	log := newCallLog([]string{"account-1"})
	for i := range calls {
		turn := int64(i / threads * 10)
		log.add(0, call{token: "t", start: turn + 1, end: turn + 10})
	}
	return len(log.result(0).Accounts[0].Tokens[fingerprint(credentials.NewSecret("t"))].Early)
}

// Histogram is the latency of calls that took as long, counted in two halves.
func Histogram(took []time.Duration) Latency {
	var all histogram
	for _, part := range [][]time.Duration{took[:len(took)/2], took[len(took)/2:]} {
		var h histogram
		for _, d := range part {
			h.add(d)
		}
		all.merge(h)
	}
	return all.latency()
}

// Buckets returns the bucket of d, and the longest duration in it.
func Buckets(d time.Duration) (int, time.Duration) { return bucket(d), bucketEnd(bucket(d)) }

// ClockPairs returns how far apart the two clocks are when a time of one is converted to the other.
func ClockPairs() time.Duration {
	pair := pairClocks()
	before := history.Now()
	at := pair.of(time.Now())
	if after := history.Now(); at > after {
		return time.Duration(at - after)
	}
	return time.Duration(max(0, before-at))
}

// CallContext returns the context of one call, and what says whether the call waited.
func CallContext(ctx context.Context) (_ context.Context, waited func() bool) {
	own := &ownCall{Context: ctx}
	return own, own.watched.Load
}

// ErrorClass is the class of a caller's error.
func ErrorClass(ctx context.Context, err error) string { return errorClass(ctx, err) }
