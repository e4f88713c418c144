package integration_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/forward"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// The test of fail-overs takes its size from the environment: with none of these variables it is as
// short as the time-outs of a slow machine allow. LATCHKEY_FAILOVER_LEASE=30s has the leases that
// users have, and outages of 10, 30, 40 and 90 s; LATCHKEY_FAILOVER_ROUNDS=20 has each of them
// twenty times, on every kind of server that there is.
const (
	failoverLease  = 6 * time.Second
	failoverRounds = 1

	failoverProcesses = 4
	failoverAccounts  = 10
)

// outageLengths are in leases. The second ends when the leases do.
var outageLengths = []float64{1. / 3, 1, 4. / 3, 3}

// exchangeTime is how long an exchange may take: with a quarter of the lease for the store, as long
// as a manager accepts.
func exchangeTime(lease time.Duration) time.Duration { return lease - lease/4 - time.Second }

// ground is a table in a store that can go away for all processes at once.
type ground struct {
	dsn        string             // of the processes, and of the test while the store is there
	begin, end func(t *testing.T) // the store is away when begin returns, and back when end does
	settle     func(t *testing.T) // returns when commits are everywhere; nil: there is one server
}

// through is the server's DSN for that database, by way of another address.
func through(s *server, addr, database string) string {
	config := s.config.Clone()
	config.Addr, config.DBName, config.InterpolateParams = addr, database, true
	return config.FormatDSN()
}

// outages are the kinds of trouble. Killed and frozen servers are asked directly, so that the
// system refuses connections to the one and keeps those to the other. The network's troubles are
// those of a forwarder before everyone's server.
var outages = []struct {
	name string
	own  func(t *testing.T, kind string) ground // needs servers of its own
	any  func(t *testing.T, s *server) ground   // does not
}{
	{name: "frozen", own: func(t *testing.T, kind string) ground {
		s := startPrivate(t, kind)
		return ground{through(s.server, s.config.Addr, s.migrated(t)), s.silence, s.resume, nil}
	}},
	{name: "killed", own: func(t *testing.T, kind string) ground {
		s := startPrivate(t, kind)
		return ground{through(s.server, s.config.Addr, s.migrated(t)), s.kill, s.restart, nil}
	}},
	{name: "failed over", own: failingOver},
	{name: "cut off", any: func(t *testing.T, s *server) ground { return forwarded(t, s, (*forward.Forwarder).Cut) }},
	{name: "refused", any: func(t *testing.T, s *server) ground { return forwarded(t, s, (*forward.Forwarder).Refuse) }},
}

func forwarded(t *testing.T, s *server, begin func(*forward.Forwarder)) ground {
	neverBlockHosts(t, s)
	f := forwardTo(t, s.config.Addr)
	return ground{
		through(s, f.Addr(), s.migrated(t)),
		func(*testing.T) { begin(f) }, func(*testing.T) { f.Heal() }, nil,
	}
}

// failingOver turns the primary read-only and leaves its connections open. In the end, its standby
// has everything that was committed, is promoted, and gets the new connections.
func failingOver(t *testing.T, kind string) ground {
	p := startPair(t, kind)
	f := forwardTo(t, p.primary.config.Addr)
	config := p.primary.config.Clone()
	config.User, config.Passwd = "app", p.password
	config.Addr, config.DBName, config.InterpolateParams = f.Addr(), pairDatabase, true
	return ground{
		dsn:   config.FormatDSN(),
		begin: func(t *testing.T) { setReadOnly(t, p.primary.server, true) },
		end: func(t *testing.T) {
			p.promote(t)
			f.To(p.primary.config.Addr)
		},
		settle: p.settle,
	}
}

// onGrounds runs the test on the ground of each outage: on one kind of server each, so that every
// kind sees its share of tests that take long, or on all.
func onGrounds(t *testing.T, all bool, test func(t *testing.T, g ground)) {
	t.Parallel()
	kinds := requirePrivate(t)
	for i, outage := range outages {
		run := func(on string, make func(t *testing.T) ground) {
			t.Run(outage.name+", "+on, func(t *testing.T) {
				t.Parallel()
				test(t, make(t))
			})
		}
		for k, kind := range kinds {
			if outage.own != nil && (all || k == i%len(kinds)) {
				run(kind, func(t *testing.T) ground { return outage.own(t, kind) })
			}
		}
		for k, s := range servers {
			if outage.any != nil && (all || k == i%len(servers)) {
				run(s.product(), func(t *testing.T) ground { return outage.any(t, s) })
			}
		}
	}
}

// askerProcess is the test's side of an asker.
type askerProcess = *process.Process[askerSays]

// failover is a test under way.
type failover struct {
	ground
	lease    time.Duration
	p        *provider.Provider
	tokenURL string
	askers   []askerProcess
	late     int // processes that were started in an outage

	mu      sync.Mutex // guards what follows
	held    *gate      // where presentations wait
	arrived chan time.Time
}

// TestFailOver (invariants 1 and 4, with every process alive): the store goes away while ten
// exchanges are under way in several processes, whose other callers go on asking, and comes back
// before the leases end, as they end, and long after. Another process is started meanwhile. Each
// account is exchanged once, and every caller gets its token.
func TestFailOver(t *testing.T) {
	lease, rounds, all := failoverLease, failoverRounds, false
	if text := os.Getenv("LATCHKEY_FAILOVER_LEASE"); text != "" {
		var err error
		if lease, err = time.ParseDuration(text); err != nil || lease < failoverLease {
			t.Fatalf("LATCHKEY_FAILOVER_LEASE=%q: want a duration of %v or more",
				text, failoverLease)
		}
	}
	if text := os.Getenv("LATCHKEY_FAILOVER_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			t.Fatalf("LATCHKEY_FAILOVER_ROUNDS=%q: want a number of 1 or more", text)
		}
		all = true
	}
	onGrounds(t, all, func(t *testing.T, g ground) {
		f := startFailover(t, g, lease)
		for round := range rounds {
			for _, length := range outageLengths {
				f.outage(t, fmt.Sprintf("round %d, %.2g leases", round+1, length), length)
			}
		}
		f.end(t)
	})
}

func startFailover(t *testing.T, g ground, lease time.Duration) *failover {
	t.Helper()
	f := &failover{ground: g, lease: lease}
	f.p = provider.New(provider.Options{OnPresentation: func(provider.Presentation) {
		f.mu.Lock()
		held, arrived := f.held, f.arrived
		f.mu.Unlock()
		arrived <- time.Now()
		held.hold(context.Background())
	}})
	served, err := provider.Start("", f.p)
	must(t, err)
	t.Cleanup(func() { _ = served.Close() })
	f.tokenURL = served.TokenURL()
	for i := range failoverProcesses {
		f.askers = append(f.askers, f.startAsker(t, fmt.Sprint("asker ", i+1)))
	}
	return f
}

func (f *failover) startAsker(t *testing.T, holder string) askerProcess {
	t.Helper()
	return process.Start[askerSays](t, "asker", holder, askerWork{
		DSN: f.dsn, TokenURL: f.tokenURL, Holder: holder, Pool: 8,
		Lease: f.lease, ExchangeTimeout: exchangeTime(f.lease), StoreTimeout: f.lease / 4,
	})
}

// outage does one, with accounts of its own. On a machine that is too slow to have all exchanges
// under way when it begins, it is done again.
func (f *failover) outage(t *testing.T, name string, leases float64) {
	t.Helper()
	for attempt := 1; !f.tryOutage(t, fmt.Sprintf("%s, %d", name, attempt), leases); attempt++ {
		if attempt == 10 {
			t.Fatalf("%s: in %d attempts, the machine was too slow to have %d exchanges under way at once", name, attempt, failoverAccounts)
		}
	}
}

func (f *failover) tryOutage(t *testing.T, name string, leases float64) (done bool) {
	t.Helper()
	accounts := f.seed(t, name)
	if f.settle != nil {
		f.settle(t) // processes may have connections to the demoted server
	}
	f.mu.Lock()
	f.held, f.arrived = newGate(), make(chan time.Time, 1000)
	f.mu.Unlock()
	release := sync.OnceFunc(func() { close(f.held.open) })
	defer release()

	callers := askFor{Accounts: accounts, Hasty: 1} // two for each account
	for _, p := range f.askers {
		p.Tell(callers)
	}
	first := receive(t, "the first presentation", f.arrived)
	for range failoverAccounts - 1 {
		receive(t, "all presentations", f.arrived)
	}
	f.begin(t)
	inTime := time.Since(first) < exchangeTime(f.lease)-500*time.Millisecond
	release()
	began := time.Now()
	if !inTime {
		f.ground.end(t)
		f.collect(t, accounts, f.askers...)
		return false
	}
	f.late++
	late := f.startAsker(t, fmt.Sprint("late asker ", f.late)) // which knows nothing of the leases
	late.Tell(callers)
	length := time.Duration(leases * float64(f.lease))
	if leases == 1 {
		length = time.Until(first.Add(f.lease))
	}
	time.Sleep(length) // an outage
	f.ground.end(t)
	away := time.Since(began)
	said := f.collect(t, accounts, append(slices.Clone(f.askers), late)...)
	late.CloseOrders()
	late.Ends()
	if ranOutOfTime(said) {
		return false
	}
	f.judge(t, fmt.Sprintf("%s (away for %v)", name, away.Round(time.Millisecond)), accounts, said)
	return true
}

// ranOutOfTime reports whether an exchange ended by its own deadline, since the claim before it was
// slow: nobody knows what becomes of its refresh token then, whether or not the store is there.
func ranOutOfTime(said map[string][]askerSays) bool {
	for _, about := range said {
		for _, s := range about {
			if s.Did == answeredProvider &&
				strings.Contains(s.Note, "the exchange's time was over") {
				return true
			}
		}
	}
	return false
}

// seed makes accounts whose grant is new and has no access token yet.
func (f *failover) seed(t *testing.T, name string) (accounts []string) {
	t.Helper()
	store, leave := f.connect(t)
	defer leave()
	for i := range failoverAccounts {
		account := fmt.Sprintf("%s, account %d", name, i+1)
		accounts = append(accounts, account)
		put(t, store, keyOf(account),
			refreshToken(f.p.Register(account)))
	}
	return accounts
}

// connect returns a store on a new connection, wherever the server is now.
func (f *failover) connect(t *testing.T) (store *latchkey.Store, leave func()) {
	t.Helper()
	db, err := openDSN(f.dsn, 0)
	must(t, err)
	return newStore(t, db), func() { _ = db.Close() }
}

// collect waits until both callers of each account have their answers from each process, and
// returns all that was said about each account.
func (f *failover) collect(t *testing.T, accounts []string, processes ...askerProcess) map[string][]askerSays {
	t.Helper()
	said := make(map[string][]askerSays)
	giveUp := time.Now().Add(4*f.lease + patience)
	for _, p := range processes {
		for missing := 2 * len(accounts); missing > 0; {
			s, ok := p.NextBefore(giveUp, nil)
			if !ok {
				t.Fatalf("%d callers of %s got no answer:\n%s",
					missing, p.Name, history(said[accounts[0]]))
			}
			said[s.Account] = append(said[s.Account], s)
			if s.Did == answeredCaller && slices.Contains(accounts, s.Account) {
				missing--
			}
		}
	}
	return said
}

// judge holds what the callers got against the table and the provider.
func (f *failover) judge(t *testing.T, name string, accounts []string, said map[string][]askerSays) {
	t.Helper()
	store, leave := f.connect(t)
	defer leave()
	stats := f.p.Stats()
	lost, told := 0, make(map[string]int)
	for _, account := range accounts {
		c := get(t, store, keyOf(account))
		var wrong []string
		if !f.p.Current(account, c.RefreshToken.Reveal()) {
			lost++
			wrong = append(wrong,
				"the grant is lost: the refresh token in the row is not the one that works")
		}
		if s := stats.Accounts[account]; s.Calls != 1 || s.ReuseDetected != 0 {
			wrong = append(wrong, fmt.Sprintf("%d exchanges and %d reuses detected; want 1 and 0",
				s.Calls, s.ReuseDetected))
		}
		if c.Interrupted.By != "" || c.Failure.Class != "" || c.Lease.ID != "" {
			wrong = append(wrong,
				fmt.Sprintf("the row is interrupted by %q, failed as %q, leased by %q",
					c.Interrupted.By, c.Failure.Class, c.Lease.Holder))
		}
		for _, s := range said[account] {
			for class, n := range s.Told {
				told[class] += n
			}
			if s.Did == answeredCaller && s.Token != c.AccessToken.Reveal() {
				wrong = append(wrong, fmt.Sprintf("a caller of %s got another token than the row's, error %q", s.Holder, s.Error))
			}
		}
		if len(wrong) > 0 {
			t.Errorf("%s:\n  %s\n%s",
				account, strings.Join(slices.Compact(wrong), "\n  "), history(said[account]))
		}
	}
	t.Logf("%s: %d of %d grants lost, %d exchanges, %d reuses detected in all; errors before the answers: %v",
		name, lost, len(accounts), stats.Calls, stats.ReuseDetected, told)
}

// history is what was said about an account, but for answers.
func history(said []askerSays) string {
	slices.SortStableFunc(said, func(a, b askerSays) int { return a.At.Compare(b.At) })
	var lines strings.Builder
	var last string
	for _, s := range said {
		line := fmt.Sprintf("%s %s", s.Holder, s.Did)
		if s.Note != "" {
			line += ": " + s.Note
		}
		if s.Did == answeredCaller || line == last {
			continue
		}
		last = line
		fmt.Fprintf(&lines, "    %s %s\n", s.At.Format("05.000"), line)
	}
	return lines.String()
}

// end has the processes end, which they do by themselves.
func (f *failover) end(t *testing.T) {
	t.Helper()
	for _, p := range f.askers {
		p.CloseOrders()
	}
	for _, p := range f.askers {
		p.Ends()
	}
}
