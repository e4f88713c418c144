package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// got is the answer to a caller.
type got struct {
	token credentials.Token
	err   error
}

// ask has n callers ask for alice's token at once.
func ask(ctx context.Context, m *credentials.Manager, n int) <-chan got {
	answers := make(chan got, n)
	for range n {
		go func() {
			token, err := m.Token(ctx, credentials.Key{Service: " GitHub ", Account: "alice "})
			answers <- got{token, err}
		}()
	}
	return answers
}

// pollsOf waits until the manager behind w has looked at the row n times more.
func pollsOf(t *testing.T, w *wire, n int) {
	t.Helper()
	before := w.count(beginsVersions)
	eventually(t, "the other process to look at the row", func() bool {
		return w.count(beginsVersions) >= before+n
	})
}

// TestCommitFirst (invariant 3) holds the save on its way to the server. The provider has answered,
// but nobody has the token: no caller in the process that exchanged, none in the other one, and not
// the row.
func TestCommitFirst(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		ctx, save := bounded(t), newGate()
		st := newStage(t, s, provider.Options{})
		holding, waiting := &wire{statement: save.holding(ctx, beginsSave)}, &wire{}
		holder := st.managerBehind(holding, credentials.Options{})
		waiter := st.managerBehind(waiting, credentials.Options{})

		const n = 4
		first := ask(ctx, holder, n)
		receive(t, "the save", save.arrived)
		second := ask(ctx, waiter, n)
		pollsOf(t, waiting, 3)
		select {
		case <-first:
			t.Error("a caller of the process that exchanged has the token before it is committed")
		case <-second:
			t.Error("a caller of the other process has an answer before the token is committed")
		default:
		}
		equal(t, "the token in the row", st.row().AccessToken.Reveal(), "")
		close(save.open)
		for _, answers := range []<-chan got{first, second} {
			for range n {
				st.kept(granted(t, "a caller", receive(t, "an answer", answers)))
			}
		}
		st.called(1)
	})
}

// TestRealExpiry: the same manager serves a token until it expires, by the server's clock and by
// its own, and renews it then.
func TestRealExpiry(t *testing.T) {
	const lifetime = 2 * time.Second
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{Lifetime: lifetime})
		m := st.manager(st.store, credentials.Options{})
		seen := make(map[string]bool)
		var token credentials.Token
		for expiry := range 3 {
			if expiry > 0 {
				eventually(t, "the token to expire", func() bool {
					return st.row().ExpiresIn <= 0 && time.Now().After(token.Expiry)
				})
			}
			var err error
			token, err = m.Token(bounded(t), alice)
			must(t, err)
			if seen[token.Value.Reveal()] {
				t.Fatalf("after %d expiries: got the token of before again", expiry)
			}
			seen[token.Value.Reveal()] = true
			if left := time.Until(token.Expiry); left <= 0 || left > lifetime {
				t.Errorf("Expiry: got %v from now, want up to %v", left, lifetime)
			}
			st.called(expiry + 1)
		}
		equal(t, "refresh tokens presented twice", st.p.Stats().Duplicates+st.p.Stats().Replays, 0)
	})
}

// TestFailureReachesAll (invariants 9 and 10): the grant dies while callers of two processes wait,
// and every one of them learns of it, as the same typed error; the endpoint is called once, then
// and afterwards.
func TestFailureReachesAll(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		st.p.Revoke(alice.Account)
		presented, w := st.hold(0), &wire{}
		holder := st.manager(st.store, credentials.Options{})
		waiter := st.managerBehind(w, credentials.Options{})

		const n = 4
		first := ask(bounded(t), holder, n)
		receive(t, "the presentation", st.arrived)
		second := ask(bounded(t), waiter, n)
		pollsOf(t, w, 1)
		close(presented.open)
		for _, answers := range []<-chan got{first, second} {
			for range n {
				a := receive(t, "an answer", answers)
				failsAs(t, "a caller", a.err, credentials.ErrGrantDead)
				var failed *credentials.RefreshError
				if !errors.As(a.err, &failed) {
					t.Errorf("a caller got error %v, want a *RefreshError", a.err)
					continue
				}
				equal(t, "Code", failed.Code, "invalid_grant")
				equal(t, "Key", failed.Key, alice)
			}
		}
		for _, m := range []*credentials.Manager{holder, waiter} {
			failsAs(t, "afterwards", errOf(m.Token(bounded(t), alice)), credentials.ErrGrantDead)
		}
		st.called(1)
	})
}

// TestEveryCallerLeaves (invariant 7): the callers of two processes, the one that started the
// exchange among them, leave while it is under way. It ends and is saved all the same, whether
// somebody asks again meanwhile or nobody does, and the next callers get its token without a call.
func TestEveryCallerLeaves(t *testing.T) {
	t.Parallel()
	for name, asksAgain := range map[string]bool{"nobody asks again": false, "a caller asks again": true} {
		t.Run(name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				st := newStage(t, s, provider.Options{})
				presented, w := st.hold(0), &wire{}
				managers := []*credentials.Manager{
					st.manager(st.store, credentials.Options{}), st.managerBehind(w,
						credentials.Options{}),
				}
				const n = 4
				ctx, leave := context.WithCancel(bounded(t))
				defer leave()
				first := ask(ctx, managers[0], n)
				receive(t, "the presentation", st.arrived)
				second := ask(ctx, managers[1], n)
				pollsOf(t, w, 1)
				leave()
				for _, answers := range []<-chan got{first, second} {
					for range n {
						failsAs(t, "a caller that left", receive(t, "an answer", answers).err,
							context.Canceled)
					}
				}
				close(presented.open)
				if !asksAgain {
					eventually(t, "the token to be saved", func() bool {
						return !st.row().AccessToken.IsZero()
					})
				}
				for _, m := range managers {
					st.kept(granted(t, "the next caller", token(t, m)))
				}
				st.called(1)
				idle(t, st.db)
			})
		})
	}
}

// rowChange is what somebody does to the row.
type rowChange struct {
	name   string
	change func(t *testing.T, st *stage)
	want   string // the callers' token; "": one that is exchanged for
	err    error
	calls  int
}

func (c rowChange) check(t *testing.T, st *stage, a got) {
	t.Helper()
	if c.err != nil {
		if !errors.Is(a.err, c.err) {
			t.Errorf("a caller got the token %q, error %v; want %v",
				a.token.Value.Reveal(), a.err, c.err)
		}
		return
	}
	got := granted(t, "a caller", a)
	st.kept(got)
	if c.want != "" {
		equal(t, "a caller's token", got, c.want)
	}
}

// TestRowChangesUnderACall changes the row while one process exchanges and another waits for it.
// The callers of both get what the row then says; the exchange's result is dropped.
func TestRowChangesUnderACall(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, st *stage) {
		t.Helper()
		must(t, st.store.Delete(bounded(t), alice))
	}
	replace := func(t *testing.T, st *stage) {
		t.Helper()
		grant := renewal("put").Grant
		grant.RefreshToken = credentials.NewSecret(st.p.Register(alice.Account))
		put(t, st.store, alice, grant)
	}
	for _, test := range []rowChange{
		{"deleted", remove, "", credentials.ErrNotFound, 1},
		{"deleted and made again", func(t *testing.T, st *stage) { remove(t, st); st.authorize() }, "", nil, 2},
		{"deleted and made again with a token", func(t *testing.T, st *stage) { remove(t, st); replace(t, st) }, "put", nil, 1},
		{"replaced by a grant with a token", replace, "put", nil, 1},
		{"replaced by a grant without token", func(_ *testing.T, st *stage) { st.authorize() }, "", nil, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				st := newStage(t, s, provider.Options{})
				presented := st.hold(0)
				w := &wire{}
				waiter := st.managerBehind(w, credentials.Options{})
				first := ask(bounded(t), st.manager(st.store, credentials.Options{}), 2)
				receive(t, "the presentation", st.arrived)
				second := ask(bounded(t), waiter, 2)
				pollsOf(t, w, 1)
				test.change(t, st)
				for range 2 { // the other process sees it at once, and does not wait for the exchange
					a := receive(t, "an answer", second)
					if test.err == nil && errors.Is(a.err, credentials.ErrNotFound) {
						a = token(t, waiter) // it looked before the row was made again
					}
					test.check(t, st, a)
				}
				close(presented.open)
				for range 2 {
					test.check(t, st, receive(t, "an answer", first))
				}
				st.called(test.calls)
				idle(t, st.db)
			})
		})
	}
}

// TestRowChangesElsewhere: a process that has a token cached notices.
func TestRowChangesElsewhere(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		st := newStage(t, s, provider.Options{})
		m := st.manager(st.store, credentials.Options{Recheck: 20 * time.Millisecond})
		put(t, st.store, alice, renewal("first").Grant)
		equal(t, "the token", granted(t, "a caller", token(t, m)), "first")
		put(t, st.store, alice, renewal("second").Grant)
		eventually(t, "the token that was put", func() bool {
			return granted(t, "a caller", token(t, m)) == "second"
		})
		must(t, st.store.Delete(bounded(t), alice))
		eventually(t, "ErrNotFound", func() bool {
			return errors.Is(token(t, m).err, credentials.ErrNotFound)
		})
		st.authorize()
		st.kept(granted(t, "a caller", token(t, m)))
		st.called(1)
	})
}

// TestSaveSupersededOnAnUnreadableRow: a save that comes too late ends, though somebody has broken
// the column extra of the row meanwhile. It would be tried for ever if it were not told.
func TestSaveSupersededOnAnUnreadableRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		store := newStore(t, db)
		seed(t, store, alice)
		claimed, err := store.Claim(bounded(t), alice, claimOf("holder"))
		if err != nil || claimed.Lease.Holder != "holder" {
			t.Fatalf("Claim: lease of %q, error %v", claimed.Lease.Holder, err)
		}
		seed(t, store, alice)
		execute(t, db, "UPDATE credentials SET extra = '[1]'")
		err = store.Save(bounded(t), claimed.Fence(), renewal("late"))
		failsAs(t, "Save", err, credentials.ErrSuperseded)
	})
}
