package credentials_test

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// spoil has the provider refuse some accounts, each in one of three ways of its own: a page (400),
// a prohibition (403), a 429 that names an hour.
func (w *world) spoil(bad map[credentials.Key]bool) {
	w.provider.script = func(ctx context.Context, in credentials.RefreshInput, n int) (credentials.Grant, error) {
		if !bad[in.Key] {
			return credentials.Grant{}, errOrdinary
		}
		select {
		case <-time.After(w.provider.latency):
		case <-ctx.Done():
		}
		e := &credentials.RefreshError{Class: credentials.ClassTransient, Reason: "HTTP status 400"}
		switch in.Key.Account[len(in.Key.Account)-1] % 3 {
		case 1:
			e.Reason = "HTTP status 403"
		case 2:
			e.Reason, e.RetryAt = "HTTP status 429", time.Now().Add(time.Hour)
		}
		return credentials.Grant{}, e
	}
}

// health is how the rows that are not bad stood in a stretch of time.
type health struct {
	longest time.Duration // for which one was due
	late    int           // rows that were due for longer than 5 s
	expired int
}

// watch looks at the rows that are not bad every ten seconds until that time.
func (w *world) watch(keys []credentials.Key, bad map[credentials.Key]bool, until time.Duration) (h health) {
	w.Helper()
	late, expired := make(map[credentials.Key]bool), make(map[credentials.Key]bool)
	for time.Since(w.began) < until {
		time.Sleep(10 * time.Second)
		for _, key := range keys {
			if bad[key] {
				continue
			}
			c := w.row(key)
			h.longest = max(h.longest, -c.DueIn)
			if c.DueIn < -5*time.Second {
				late[key] = true
			}
			if c.ExpiresIn <= 0 {
				expired[key] = true
			}
		}
	}
	h.late, h.expired = len(late), len(expired)
	return h
}

// A hundred accounts that fail by themselves keep none of a thousand healthy ones from being
// renewed in time. Where nothing but bad ones becomes due for a while, the provider is taken for
// down, as it must; the first healthy one shows that it is not.
func TestBadAppleSpoilsNone(t *testing.T) {
	const rotten = 100
	for name, test := range map[string]struct {
		isBad   func(i int) bool
		longest time.Duration
		late    int
	}{
		"one in eleven":  {func(i int) bool { return i%11 == 5 }, 5 * time.Second, 0},
		"ten at a time":  {func(i int) bool { return i/10%11 == 5 }, 95 * time.Second, 60},
		"all in a row":   {func(i int) bool { return i >= 300 && i < 300+rotten }, 95 * time.Second, 20},
		"those due last": {func(i int) bool { return i >= 1000 }, 95 * time.Second, 20},
	} {
		inWorldOf(t, name, func(w *world) {
			w.provider.Lifetime = time.Hour
			keys, bad := accounts("github", 1000+rotten), make(map[credentials.Key]bool)
			for i, key := range keys {
				bad[key] = test.isBad(i)
			}
			w.spread(keys, 55*time.Minute)
			w.spoil(bad)
			defer w.start("P").keeps()()
			w.reaches(20 * time.Minute)
			h := w.watch(keys, bad, 80*time.Minute)
			w.Logf("late by at most %v, %d by more than 5 s, %d expired", h.longest, h.late, h.expired)
			if h.longest > test.longest || h.late > test.late || h.expired > 0 {
				w.Errorf("want late by at most %v, %d by more than 5 s, none expired", test.longest, test.late)
			}
		})
	}
}

// The same where all are due at once: the healthy ones are renewed within seconds of when they
// would be without the others, which would be after 14 s.
func TestBadAppleSpoilsNoneOfThoseDueAtOnce(t *testing.T) {
	const rotten = 100
	for name, isBad := range map[string]func(i int) bool{
		"one in eleven": func(i int) bool { return i%11 == 5 },
		"the first":     func(i int) bool { return i < rotten },
		"in the middle": func(i int) bool { return i >= 500 && i < 500+rotten },
		"the last":      func(i int) bool { return i >= 1000 },
	} {
		inWorldOf(t, name, func(w *world) {
			w.provider.Lifetime = 8 * time.Hour
			keys, bad := accounts("github", 1000+rotten), make(map[credentials.Key]bool)
			for i, key := range keys {
				w.seed(key)
				bad[key] = isBad(i)
				time.Sleep(time.Millisecond)
			}
			w.spoil(bad)
			defer w.start("P").keeps()()
			began := time.Now()
			for left := 1; left > 0; {
				time.Sleep(time.Second)
				left = 0
				for _, key := range keys {
					if !bad[key] && w.row(key).AccessToken.IsZero() {
						left++
					}
				}
				if took := time.Since(began); took > 45*time.Second {
					w.Fatalf("%d of 1000 are left after %v", left, took)
				}
			}
			w.Logf("the healthy ones are renewed after %v", time.Since(began))
		})
	}
}

// A provider that is down is found out after few exchanges, also where some accounts had failed
// before, and by a process that knows of no outage.
func TestProviderThatIsDownIsFoundOut(t *testing.T) {
	inWorld(t, func(w *world) {
		keys, bad := accounts("github", 500), make(map[credentials.Key]bool)
		w.seed(keys...)
		for i, key := range keys {
			bad[key] = i%10 == 0
		}
		w.spoil(bad)
		p := w.start("P", func(s *setup) { s.service.KeepParallel = 4 })
		p.keeps()
		w.reaches(30 * time.Second)
		if k := p.keeper.Stats()["github"]; k.ProviderDown || k.Renewed != 450 {
			w.Fatalf("with 50 bad ones of 500: %+v", k)
		}
		p.mustClose()
		w.provider.script = busy(0)
		w.seed(accounts("github", 600)[500:]...)
		q := w.start("Q", func(s *setup) { s.service.KeepParallel = 4 })
		defer q.keeps()()
		before := len(w.provider.record())
		w.reaches(5 * time.Minute)
		fresh := 0
		for _, c := range w.provider.record()[before:] {
			if !bad[c.Key] {
				fresh++
			}
		}
		if k := q.keeper.Stats()["github"]; !k.ProviderDown || fresh > 4+5+25 {
			w.Errorf("%d exchanges of accounts that had not failed, in 5 minutes: %+v", fresh, k)
		}
	})
}
