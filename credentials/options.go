package credentials

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Defaults of [Options].
const (
	// DefaultLease covers the default time-outs below with room for a slow claim. It is how long
	// the others wait after a holder died, so it should not be longer than it has to be.
	DefaultLease = 30 * time.Second

	// MaxLease is the longest lease that is accepted.
	MaxLease = 24 * time.Hour

	// DefaultExchangeTimeout is longer than token endpoints take on a bad day: an exchange that is
	// cut off leaves it open whether the refresh token was used up.
	DefaultExchangeTimeout = 15 * time.Second

	// DefaultStoreTimeout bounds one call of the store.
	DefaultStoreTimeout = 5 * time.Second

	// DefaultRecheck is how soon a process notices that a credential was replaced, rejected or
	// deleted elsewhere.
	DefaultRecheck = 30 * time.Second

	// DefaultCacheSize is more credentials than most processes serve within minutes, at some
	// kilobytes each.
	DefaultCacheSize = 100_000

	// margin is kept free between the end of the save's budget and the lease's, for scheduling.
	margin = time.Second
)

// Options change a manager. Nil, and each field's zero value, means the default.
type Options struct {
	// Lease is how long a claim lasts. Zero: DefaultLease. At least ExchangeTimeout + StoreTimeout
	// + one second, so that an exchange and its save end before the lease does.
	Lease time.Duration

	// ExchangeTimeout bounds one exchange. Zero: DefaultExchangeTimeout.
	ExchangeTimeout time.Duration

	// StoreTimeout bounds one call of the store. Zero: DefaultStoreTimeout. When a store is back
	// after an outage, every holder has StoreTimeout + one second (the grace) to save its result
	// before another process takes its lease over.
	StoreTimeout time.Duration

	// Recheck is how long a cached token is served before the store is looked at again. Tokens that
	// were used in the last ten minutes are looked at together, in the background: 43 statements in
	// a Recheck, whatever their number, and a read for each row that has moved. Zero:
	// DefaultRecheck.
	Recheck time.Duration

	// CacheSize is how many credentials' tokens this process keeps at most, beside those whose
	// [Source] is held by the program. Zero: DefaultCacheSize. One that was evicted costs a read of
	// the store, not an exchange.
	CacheSize int

	// Holder names this process in the store, for people: printable ASCII, at most 255 bytes.
	// Empty: host name and process id.
	Holder string

	// Logger gets a line at info level when an exchange has ended, and at warn and error level the
	// troubles that no caller is told of: failures of renewals ahead of expiry, and results that
	// could not be saved yet. Of exchanges of a service with the same outcome, and of the same
	// trouble of many credentials of a service, there is one line a second, with a count and one
	// example. No secret is logged. Nil: slog.Default().
	Logger *slog.Logger

	// Observer is told what happens in this process. It is copied. Nil: nobody is told.
	Observer *Observer
}

// grace is how long a process must have seen a foreign lease, with a store that answers, before it
// takes the lease over. A try to save that began before the store was back ends within
// StoreTimeout, and the next one is made within the rest.
func (o *Options) grace() time.Duration { return o.StoreTimeout + margin }

// complete fills in the defaults and checks the result.
func (o *Options) complete() error {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"Lease", &o.Lease, DefaultLease},
		{"ExchangeTimeout", &o.ExchangeTimeout, DefaultExchangeTimeout},
		{"StoreTimeout", &o.StoreTimeout, DefaultStoreTimeout},
		{"Recheck", &o.Recheck, DefaultRecheck},
	} {
		if *d.value < 0 {
			return fmt.Errorf("%s is %v; it must not be negative", d.name, *d.value)
		}
		*d.value = cmp.Or(*d.value, d.standard)
	}
	if o.Lease > MaxLease {
		return fmt.Errorf("Lease is %v; at most %v are allowed, since it is how long the others wait after a holder died",
			o.Lease, MaxLease)
	}
	if o.StoreTimeout > o.Lease || o.ExchangeTimeout > o.Lease-o.StoreTimeout-margin {
		return fmt.Errorf("Lease is %v, too short for ExchangeTimeout %v + StoreTimeout %v + %v to spare; "+
			"an exchange must end before its lease does", o.Lease, o.ExchangeTimeout, o.StoreTimeout, margin)
	}
	if o.CacheSize < 0 {
		return fmt.Errorf("CacheSize is %d; it must not be negative", o.CacheSize)
	}
	o.CacheSize = cmp.Or(o.CacheSize, DefaultCacheSize)
	if o.Holder == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown-host"
		}
		o.Holder = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	o.Holder = printable(o.Holder, 255)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// DefaultKeepParallel is how many exchanges of one service a keeper makes at the same time.
const DefaultKeepParallel = 16

// KeeperOptions change a keeper. Nil, and each field's zero value, means the default.
type KeeperOptions struct {
	// Parallel is how many exchanges of one service the keeper makes at the same time, and how many
	// credentials it claims at once, where [Service].KeepParallel does not say. Zero:
	// DefaultKeepParallel.
	Parallel int

	// Rate is how many exchanges per second the keeper begins for one service where
	// [Service].KeepRate does not say. Zero: no limit but Parallel.
	Rate float64
}

// complete fills in the defaults and checks the result.
func (o *KeeperOptions) complete() error {
	switch {
	case o.Parallel < 0:
		return fmt.Errorf("KeeperOptions.Parallel is %d; it must not be negative", o.Parallel)
	case !validRate(o.Rate):
		return fmt.Errorf("KeeperOptions.Rate is %v exchanges per second; it must be a number that is not negative", o.Rate)
	}
	o.Parallel = cmp.Or(o.Parallel, DefaultKeepParallel)
	return nil
}
