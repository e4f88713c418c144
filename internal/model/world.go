package model

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// The options of the managers: the defaults, with which the rules below count.
const (
	lease           = credentials.DefaultLease
	storeTimeout    = credentials.DefaultStoreTimeout
	exchangeTimeout = credentials.DefaultExchangeTimeout
	margin          = time.Second

	// wire is how long a call of the store is on its way, and its answer on the way back.
	wire = time.Millisecond

	// patience is how long any caller may be kept whose process runs: the call's own bound of two
	// leases, an exchange that is begun at its end, and the store's time-outs.
	patience = 4 * lease

	// afterwards is how long trouble goes on to explain things: until the lease has ended that it
	// befell, and the next.
	afterwards = 2*lease + 5*time.Second
)

// world is one store, one provider, and processes that are paused and killed, in a bubble where
// time is fake.
type world struct {
	plan Plan
	db   *memstore.Store
	over chan struct{} // closed at the end, when the dead may leave their calls
	live sync.WaitGroup

	mu       sync.Mutex // guards what follows, and all that belongs to it; never held while time passes
	broken   *Violation // the first
	provider testkit.Families
	handedTo map[*testkit.RefreshToken]*presentation

	// late has the families for which a request arrived when its claim was over, since its process
	// was stopped on the way or the network kept the request. No client can prevent that, so that
	// nothing is promised about these families any more.
	late map[*testkit.Family]bool

	accounts  []*account
	byKey     map[credentials.Key]*account
	byRow     map[uint64]*account
	claims    map[credentials.Fence]*claimed
	processes []*process // those that run
	all       []*process
	callers   []*caller
	away      outage    // of the store, from all processes
	readOnly  time.Time // when a write was last refused so
	clocks    clocks
	troubled  time.Time // when any process or the whole store was last in trouble
	began     time.Time
	history   []string
	Counts
}

// account is one credential, and what is known of its past.
type account struct {
	key    credentials.Key
	cell   cell
	family *testkit.Family // of the latest put

	committed     map[string]*commit // by access token
	turnedDown    map[string]bool    // access tokens that were reported
	presentations []*presentation
	faults        map[Op][]Fault
	pasts         []past
	staleAt       time.Time // when a node that was behind last showed it
	mayLose       string    // what happened that may cost the grant, beside which nothing may; empty: nothing

	absent, dead time.Time     // when it was last
	young        time.Time     // when its token was last too young to be exchanged since it was turned down
	troubled     time.Time     // when a call about it last met trouble
	longest      time.Duration // of its exchanges: waiters in other processes look when the next may have taken as long
}

// commit is an access token in the store. It may expire by the row a little before it ends: the row
// does not know how long the request was on its way. due and expires are by the store's clock.
type commit struct {
	at, due, expires, ends, replaced time.Time

	over bool // it was replaced by a put, so that its grant is over

	ids []stored // several, where the provider sends the same token again
}

// stored is a token's name, and since when it is in the store under it.
type stored struct {
	credentials.TokenID
	at time.Time
}

// id is the newest name of the token.
func (c *commit) id() credentials.TokenID {
	if len(c.ids) == 0 {
		return credentials.TokenID{}
	}
	return c.ids[len(c.ids)-1].TokenID
}

// claimed is a claim that was made.
type claimed struct {
	by       *process
	account  *account
	id       string
	at, ends time.Time
	early    time.Duration       // how long before its token was due; zero or less: not
	readAt   credentials.Instant // what the store's clock showed at the time read
	read     time.Time
	late     bool     // it was made when its process had given the call up
	kept     bool     // it is a keeper's
	waits    bool     // it took the place of a lease
	tookOver bool     // and under that something may have been presented
	over     *claimed // that lease's, if it is known
	released bool     // its process tried to give it up, with nothing presented
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
	recorded bool              // a save or a failure under its claim took effect, or was superseded
	unknown  bool              // it was recorded that nobody knows its outcome
	heard    time.Time         // when its success reached the process
	known    time.Time         // when it was recorded that it succeeded, or did nothing
}

func newWorld(p Plan) *world {
	now := time.Now()
	w := &world{
		plan: p, db: memstore.New(), over: make(chan struct{}), began: now,
		byKey: make(map[credentials.Key]*account), byRow: make(map[uint64]*account),
		claims: make(map[credentials.Fence]*claimed), Counts: Counts{Plans: 1},
		handedTo: make(map[*testkit.RefreshToken]*presentation),
		late:     make(map[*testkit.Family]bool), provider: families(p),
	}
	for k := range p.Keys {
		a := &account{
			key:       credentials.Key{Service: "github", Account: fmt.Sprint("k", k)},
			committed: make(map[string]*commit), turnedDown: make(map[string]bool), faults: make(map[Op][]Fault),
		}
		w.accounts, w.byKey[a.key] = append(w.accounts, a), a
		w.put(a, false)
	}
	if p.Ahead > grace {
		w.mayLose("a node's clock is ahead by more than the grace")
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
	w.away = outage{}
	for _, p := range w.all {
		p.cut = outage{}
	}
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
	w.unfinished()
	return w.broken != nil
}

// breaks records the first violation. w.mu is held.
func (w *world) breaks(v *Violation) {
	if v != nil && w.broken == nil {
		w.broken = v
		w.noteLocked("VIOLATION %s", v.Error())
	}
}

// running returns the processes that run now.
func (w *world) running() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.processes)
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

func (w *world) noteLocked(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf("%12v  ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

// put has a person authorize the account, and puts the grant. w.mu is not held, or nobody else is
// there yet.
func (w *world) put(a *account, withToken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.past(a, now)
	clock := w.clock(nil)
	a.family = w.provider.Authorize(a.key.Account)
	grant := credentials.Grant{RefreshToken: credentials.NewSecret(a.family.Newest.Text)}
	if withToken {
		grant.AccessToken, grant.Lifetime = credentials.NewSecret(w.provider.Access(a.family, now).Text), w.provider.Lifetime
		a.commits(grant.AccessToken.Reveal(), commit{
			at: now, due: clock.Add(credentials.DueIn(grant.Lifetime)),
			expires: clock.Add(grant.Lifetime), ends: now.Add(grant.Lifetime),
		})
	}
	o := op{kind: put, at: span{clock, clock}, grant: grant}
	o.err = w.node(nil).Put(context.Background(), a.key, grant)
	w.applied(nil, a, o)
}

func (w *world) remove(a *account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.past(a, now)
	clock := w.clock(nil)
	o := op{kind: remove, at: span{clock, clock}}
	o.err = w.node(nil).Delete(context.Background(), a.key)
	w.applied(nil, a, o)
}

// past notes what the credential was until now.
func (w *world) past(a *account, now time.Time) {
	if !a.cell.exists {
		a.absent = now
	}
	if a.cell.failure.class == credentials.ClassDead {
		a.dead = now
	}
	for _, ahead := range []time.Duration{0, w.plan.Ahead} {
		clock := now.Add(w.clocks.set + ahead)
		if young, _ := a.cell.tooYoung(span{clock, clock}, minTokenAge); young {
			a.young = now
		}
	}
}

// minTokenAge is the claim of a process whose service has the default.
var minTokenAge = credentials.Claim{MinTokenAge: credentials.DefaultMinTokenAge}

// applied holds the call's answer, and the row that it left, against the model. w.mu is held.
func (w *world) applied(p *process, a *account, o op) {
	token := a.cell.token
	next, v := a.cell.apply(o)
	if v == nil {
		row, err := w.node(p).Get(context.Background(), a.key)
		if next, v = next.apply(op{kind: Get, at: o.at, got: row, err: err}); err == nil {
			w.byRow[row.Row] = a
		}
		a.remember(row)
	}
	w.breaks(v)
	a.cell = next
	if c := a.committed[token]; c != nil && next.token != token {
		c.replaced, c.over = time.Now(), o.kind == put
	}
	a.name()
}

// name notes under which name the token is stored that is in the store now.
func (a *account) name() {
	id := credentials.TokenID{Row: a.cell.row, Version: a.cell.tokenOf}
	if c := a.committed[a.cell.token]; c != nil && c.id() != id {
		c.ids = append(c.ids, stored{id, time.Now()})
	}
}

// since is when the token was stored last.
func (c *commit) since() time.Time {
	if len(c.ids) == 0 {
		return c.at
	}
	return c.ids[len(c.ids)-1].at
}

// commits notes an access token that is in the store from now on. None of them lives for ever.
func (a *account) commits(token string, c commit) {
	if before := a.committed[token]; before != nil {
		c.at, c.ids = before.at, before.ids
	}
	a.committed[token] = &c
	a.name()
}
