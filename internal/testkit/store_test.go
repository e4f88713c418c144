package testkit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// subject is a way to rows of its own, and the methods that package storetest asks for besides.
type subject struct {
	*testkit.Store
	storetest.Operator
	rows *memstore.Store
}

func newSubject() subject {
	rows := memstore.New()
	return subject{testkit.NewStore(rows), rows, rows}
}

func (s subject) Put(ctx context.Context, key credentials.Key, grant credentials.Grant) error {
	return s.rows.Put(ctx, key, grant)
}

func (s subject) Delete(ctx context.Context, key credentials.Key) error {
	return s.rows.Delete(ctx, key)
}

func (s subject) Revive(ctx context.Context, revival credentials.Revival) (int, error) {
	return s.rows.Revive(ctx, revival)
}

// Without faults a Store keeps the contract: no argument and no answer is lost on the way.
func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return newSubject() })
}

var errFailed = errors.New("failed")

// claimFaults are faults that are set before two claims of one row under one ID.
var claimFaults = []struct {
	name  string
	fault func(s *testkit.Store)
	want  error         // of the first claim
	made  bool          // it took effect
	again error         // of the second
	took  time.Duration // both
}{
	{name: "none", fault: func(*testkit.Store) {}, made: true},
	{name: "refused", fault: func(s *testkit.Store) { s.Before(testkit.Claim, testkit.Refuse) },
		want: testkit.ErrDown, again: testkit.ErrDown},
	{name: "refused once", fault: func(s *testkit.Store) { s.Before(testkit.Claim, testkit.Once(testkit.Refuse)) },
		want: testkit.ErrDown},
	{name: "lost reply", fault: func(s *testkit.Store) { s.After(testkit.Claim, testkit.Once(testkit.Answer(errFailed))) },
		want: errFailed, made: true},
	{name: "down", fault: func(s *testkit.Store) { s.Down(true) }, want: testkit.ErrDown, again: testkit.ErrDown},
	{name: "dies", fault: func(s *testkit.Store) { s.After(testkit.Claim, testkit.Once(s.Dies)) },
		want: testkit.ErrDown, made: true, again: testkit.ErrDown},
	{name: "of another method", fault: func(s *testkit.Store) { s.Before(testkit.Save, testkit.Refuse) }, made: true},
	{name: "healed", fault: func(s *testkit.Store) {
		s.Down(true)
		s.Before(testkit.Claim, testkit.Refuse)
		s.Heal()
	}, made: true},
	{name: "healed method", fault: func(s *testkit.Store) {
		s.Before(testkit.Claim, testkit.Refuse)
		s.Heal(testkit.Claim)
	}, made: true},
	{name: "slow", fault: func(s *testkit.Store) {
		s.Before(testkit.Claim, testkit.Chain(testkit.Delay(time.Second), testkit.Delay(time.Second)))
	}, made: true, took: 4 * time.Second},
	{name: "hangs", fault: func(s *testkit.Store) { s.Before(testkit.Claim, testkit.Once(testkit.Hang)) },
		want: context.DeadlineExceeded, took: 5 * time.Second},
	{name: "another node", fault: func(s *testkit.Store) { s.Through(memstore.New()) },
		want: credentials.ErrNotFound, again: credentials.ErrNotFound},
}

func TestFaults(t *testing.T) {
	var (
		key   = credentials.Key{Service: "github", Account: "alice"}
		grant = credentials.Grant{RefreshToken: credentials.NewSecret("seed")}
		claim = credentials.Claim{ID: "claim", Holder: "holder", Lease: time.Minute}
	)
	for _, test := range claimFaults {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSubject()
				if err := s.Put(t.Context(), key, grant); err != nil {
					t.Fatal(err)
				}
				test.fault(s.Store)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				c, err := s.Claim(ctx, key, claim)
				if !errors.Is(err, test.want) || (err == nil) != (c.Lease.ID == claim.ID) {
					t.Errorf("the first claim: got lease %q and error %v, want error %v", c.Lease.ID, err, test.want)
				}
				row, err := s.rows.Get(t.Context(), key)
				if made := row.Lease.ID == claim.ID; made != test.made || err != nil {
					t.Errorf("the claim was made: %t, want %t; %v", made, test.made, err)
				}
				if _, err := s.Claim(t.Context(), key, claim); !errors.Is(err, test.again) {
					t.Errorf("the second claim: got error %v, want %v", err, test.again)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %v, want %v", took, test.took)
				}
				if s.Count() != 2 || s.Count(testkit.Claim) != 2 || s.Count(testkit.Get) != 0 || s.InFlight() != 0 {
					t.Errorf("got %d calls, %d of Claim, %d in flight", s.Count(), s.Count(testkit.Claim), s.InFlight())
				}
			})
		})
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := newSubject(), testkit.NewGate()
		s.After(testkit.DueServices, gate.Wait)
		done := make(chan error)
		go func() {
			_, err := s.DueServices(t.Context())
			done <- err
		}()
		<-gate.Reached
		synctest.Wait()
		select {
		case <-done:
			t.Error("a call has passed a closed gate")
		default:
		}
		if s.InFlight() != 1 {
			t.Errorf("got %d calls in flight, want 1", s.InFlight())
		}
		gate.Open()
		gate.Open()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
