package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var contextTests = []test{
	{"cancelled, it ends every call", func(s *subject) {
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		endsEveryCall(s, ctx)
	}},
	{"past its deadline, it ends every call", func(s *subject) {
		ctx, cancel := context.WithDeadline(s.Context(), time.Now().Add(-time.Second))
		defer cancel()
		endsEveryCall(s, ctx)
	}},
}

// endsEveryCall makes calls that would succeed but for ctx, which has ended.
func endsEveryCall(s *subject, ctx context.Context) {
	claimable, leased, fresh := s.fresh(), s.fresh(), s.fresh()
	claimable.seed()
	leased.seed()
	held := leased.claim("A", long)
	fresh.put(renewal("put").Grant)
	batch, found := claimable.batch("B", 1), leased.batch("A", 1)
	found.ID = held.Lease.ID

	for _, call := range []struct {
		name string
		on   *subject
		do   func() error
	}{
		{"Get", fresh, func() error { _, err := s.store.Get(ctx, fresh.key); return err }},
		{"GetAll", fresh, func() error { _, err := s.store.GetAll(ctx, []credentials.Key{fresh.key}); return err }},
		{"Versions", leased, func() error {
			_, err := s.store.Versions(ctx, map[uint64]credentials.Key{held.Row: held.Key})
			return err
		}},
		{"Claim", claimable, func() error { _, err := s.store.Claim(ctx, claimable.key, batch.Claim); return err }},
		{"ClaimAll", claimable, func() error {
			_, err := s.store.ClaimAll(ctx, []credentials.Key{claimable.key}, batch.Claim)
			return err
		}},
		{"ClaimDue", claimable, func() error { _, err := s.store.ClaimDue(ctx, batch); return err }},
		{"FindClaims", leased, func() error { _, err := s.store.FindClaims(ctx, found, 0); return err }},
		{"DueServices", claimable, func() error { _, err := s.store.DueServices(ctx); return err }},
		{"Save", leased, func() error { return s.store.Save(ctx, held.Fence(), renewal("A")) }},
		{"Fail", leased, func() error { return s.store.Fail(ctx, held.Fence(), failure(credentials.ClassTransient)) }},
		{"Release", leased, func() error { return s.store.Release(ctx, held.Fence()) }},
		{"Put", fresh, func() error { return s.store.Put(ctx, fresh.key, renewal("new").Grant) }},
		{"Ensure", fresh, func() error { return s.store.Ensure(ctx, fresh.key, renewal("new").Grant) }},
		{"Delete", fresh, func() error { return s.store.Delete(ctx, fresh.key) }},
	} {
		before := call.on.get()
		switch err := call.do(); {
		case err == nil:
			s.Errorf("%s: got no error, though its context has ended", call.name)
		case errors.Is(err, credentials.ErrNotFound), errors.Is(err, credentials.ErrSuperseded):
			s.Errorf("%s: got error %v about the credential, though the context has ended", call.name, err)
		}
		call.on.unchanged(before)
	}
	leased.save(held, renewal("A")) // a call without effect can still be made
}
