package model

import (
	"context"
	"fmt"
	"sync"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// What the managers run with: the defaults, which the rules below count with.
const (
	lease           = credentials.DefaultLease
	storeTimeout    = credentials.DefaultStoreTimeout
	exchangeTimeout = credentials.DefaultExchangeTimeout
	margin          = time.Second

	// wire is how long a call of the store is on its way, and its answer on the way back.
	wire = time.Millisecond

	// patience is how long any caller may be kept whose process runs: the flight's own bound of two leases, an
	// exchange that is begun at its end, and the store's time-outs.
	patience = 4 * lease

	// afterwards is how long trouble goes on to explain things: until the lease has ended that it befell, and the next.
	afterwards = 2*lease + 5*time.Second
)

// world is one store, one provider, and processes that are paused and killed, in a bubble where time is fake.
type world struct {
	plan Plan
	db   *memstore.Store
	over chan struct{} // closed at the end, when the dead may leave their calls
	live sync.WaitGroup

	mu        sync.Mutex // guards what follows, and all that belongs to it; never held while time passes
	broken    *Violation // the first
	provider  endpoint
	accounts  []*account
	byKey     map[credentials.Key]*account
	byRow     map[uint64]*account
	claims    map[credentials.Fence]*claimed
	processes []*process // those that run
	all       []*process
	callers   []*caller
	down      time.Time // until then nobody reaches the store
	troubled  time.Time // when any process or the whole store was last in trouble
	began     time.Time
	history   []string
	Counts
}

// Counts say what came to pass, so that Run sees whether its plans reached the corners.
type Counts struct {
	Plans, Exchanges, Claims, Lapsed, LateSaves, SupersededSaves, SupersededFailures, Replays, Deaths, Kills, Lost, Late int
}

func (c *Counts) add(d Counts) {
	for _, pair := range []struct {
		to   *int
		from int
	}{
		{&c.Plans, d.Plans}, {&c.Exchanges, d.Exchanges}, {&c.Claims, d.Claims}, {&c.Lapsed, d.Lapsed},
		{&c.LateSaves, d.LateSaves}, {&c.SupersededSaves, d.SupersededSaves}, {&c.SupersededFailures, d.SupersededFailures},
		{&c.Replays, d.Replays}, {&c.Deaths, d.Deaths}, {&c.Kills, d.Kills}, {&c.Lost, d.Lost}, {&c.Late, d.Late},
	} {
		*pair.to += pair.from
	}
}

// account is one credential, and what is known of its past.
type account struct {
	key    credentials.Key
	cell   cell
	family *family // of the latest put

	committed     map[string]*commit // by access token
	turnedDown    map[string]bool    // access tokens that were reported
	presentations []*presentation
	faults        map[Op][]Fault

	absent, dead time.Time     // when it was last
	troubled     time.Time     // when a call about it last met trouble
	longest      time.Duration // of its exchanges: waiters in other processes look when the next may have taken as long
}

// commit is an access token in the store. It may expire by the row a little before it ends: the row does not know how
// long the request was on its way.
type commit struct{ at, due, expires, ends, replaced time.Time }

// claimed is a claim that was made.
type claimed struct {
	by       *process
	account  *account
	id       string
	at, ends time.Time
	early    time.Duration       // how long before its token was due; zero or less: not
	readAt   credentials.Instant // what the store's clock showed at the time read
	read     time.Time
	late     bool // it was made when its process had given the call up
	kept     bool // it is a keeper's
	released bool // its process tried to give it up, with nothing presented
	shown    *presentation
}

// presentation is one call of the refresher.
type presentation struct {
	by      *process
	claim   *claimed
	account *account
	refresh string // token
	at      time.Time

	granted  credentials.Grant // what the provider answered, zero: nothing
	retryAt  time.Time         // as the provider said
	answered bool              // its success reached the process
	stored   bool              // or something later was
	known    time.Time         // when it was recorded that it succeeded, or did nothing
}

func newWorld(p Plan) *world {
	now := time.Now()
	w := &world{
		plan: p, db: memstore.New(), over: make(chan struct{}), began: now,
		byKey: make(map[credentials.Key]*account), byRow: make(map[uint64]*account),
		claims: make(map[credentials.Fence]*claimed), Counts: Counts{Plans: 1},
	}
	w.provider = endpoint{
		mode: p.Provider, grace: p.Grace, lifetime: p.Lifetime,
		refresh: make(map[string]*refreshToken), access: make(map[string]time.Time),
	}
	for k := range p.Keys {
		a := &account{
			key:       credentials.Key{Service: "github", Account: fmt.Sprint("k", k)},
			committed: make(map[string]*commit), turnedDown: make(map[string]bool), faults: make(map[Op][]Fault),
		}
		w.accounts, w.byKey[a.key] = append(w.accounts, a), a
		w.put(a, false)
	}
	for i := range p.Processes {
		w.processes = append(w.processes, nil)
		w.start(i)
	}
	return w
}

// run does what is planned, lets everything come to rest, and looks at what is left.
func (w *world) run() {
	for _, action := range w.plan.Actions {
		w.note("— %T%+v", action, action)
		action.do(w)
		synctest.Wait()
		if w.isBroken() {
			break
		}
	}
	if !w.isBroken() {
		w.settle()
	}
	w.end()
}

// end lets everybody go. No goroutine may be left: the bubble sees to that.
func (w *world) end() {
	w.mu.Lock()
	w.down = time.Time{}
	for _, a := range w.accounts {
		clear(a.faults)
	}
	w.mu.Unlock()
	close(w.over)
	for _, p := range w.all {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = p.m.Close(ctx)
		cancel()
	}
	w.live.Wait()
	time.Sleep(5 * time.Minute) // longer than any trouble lasts
}

func (w *world) isBroken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overdue()
	return w.broken != nil
}

// breaks records the first violation. w.mu is held.
func (w *world) breaks(v *Violation) {
	if v != nil && w.broken == nil {
		w.broken = v
		w.noteLocked("VIOLATION %s", v.Error())
	}
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

func (w *world) noteLocked(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf("%12v  ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

// put has a person authorize the account, and puts the grant. w.mu is not held, or nobody else is there yet.
func (w *world) put(a *account, withToken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.past(a, now)
	a.family = w.provider.authorize()
	grant := credentials.Grant{RefreshToken: credentials.NewSecret(a.family.newest.text)}
	if withToken {
		grant.Token, grant.Lifetime = credentials.NewSecret(w.provider.token(now)), w.provider.lifetime
		ends := now.Add(grant.Lifetime)
		a.commits(grant.Token.Reveal(), commit{at: now, due: now.Add(credentials.DueIn(grant.Lifetime)), expires: ends, ends: ends})
	}
	o := op{kind: put, at: span{now, now}, grant: grant}
	o.err = w.db.Put(context.Background(), a.key, grant)
	w.applied(a, o)
}

func (w *world) remove(a *account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.past(a, now)
	o := op{kind: remove, at: span{now, now}}
	o.err = w.db.Delete(context.Background(), a.key)
	w.applied(a, o)
}

// past notes what the credential was until now.
func (w *world) past(a *account, now time.Time) {
	if !a.cell.exists {
		a.absent = now
	}
	if a.cell.failure.class == credentials.Rejected {
		a.dead = now
	}
}

// applied holds the call's answer, and the row that it left, against the model. w.mu is held.
func (w *world) applied(a *account, o op) {
	token := a.cell.token
	next, v := a.cell.apply(o)
	if v == nil {
		row, err := w.db.Get(context.Background(), a.key)
		if next, v = next.apply(op{kind: Get, at: o.at, got: row, err: err}); err == nil {
			w.byRow[row.Row] = a
		}
	}
	w.breaks(v)
	a.cell = next
	if c := a.committed[token]; c != nil && next.token != token {
		c.replaced = o.at.from
	}
}

// commits notes an access token that is in the store from now on. None of them lives for ever.
func (a *account) commits(token string, c commit) {
	if before := a.committed[token]; before != nil {
		c.at = before.at
	}
	a.committed[token] = &c
}
