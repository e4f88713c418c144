package integration_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// renewerWork is the work of a process of the role "renewer": it keeps alice's service until its
// stdin ends. It answers each order with its figures so far.
type renewerWork struct {
	DSN    string
	Pool   int    // connections at most
	Holder string // the process's name in the rows

	TokenURL string        // empty: the exchange is a pause of Latency, in the process
	Latency  time.Duration // of such an exchange

	Parallel                             int // of KeeperOptions
	Lease, ExchangeTimeout, StoreTimeout time.Duration

	Bare *bareWrites // in place of keeping, if not nil
}

// bareWrites are the two UPDATEs of a refresh and nothing else, on the rows with ids of First,
// First+Step and so on, by Parallel goroutines.
type bareWrites struct {
	Claim, Save       string // with rowID for the row's id
	First, Step, Last int
	Parallel          int
}

const rowID = "{id}"

// renew is the role of the renewer.
func renew(orders *json.Decoder, says *json.Encoder) error {
	var w renewerWork
	if err := orders.Decode(&w); err != nil {
		return err
	}
	db, err := openDSN(w.DSN, w.Pool)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	start := w.keep
	if w.Bare != nil {
		start = w.Bare.start
	}
	job, err := start(db)
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- job.run(ctx) }()
	for orders.Decode(new(bool)) == nil { // else the test wants this to end, or has ended
		if err := says.Encode(job.stats()); err != nil {
			return err
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	finishing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := job.finish(finishing); err != nil {
		return err
	}
	return says.Encode(job.stats())
}

// renewerJob is the work under way.
type renewerJob struct {
	run    func(ctx context.Context) error // until ctx ends
	finish func(ctx context.Context) error
	stats  func() credentials.KeeperStats
}

// keep is the job of a keeper.
func (w renewerWork) keep(db *sql.DB) (renewerJob, error) {
	store, err := latchkey.NewStore(db, nil)
	if err != nil {
		return renewerJob{}, err
	}
	m, err := credentials.NewManager(store,
		credentials.Services{alice.Service: {Refresher: w.refresher()}},
		&credentials.Options{
			Holder: w.Holder, Lease: w.Lease, ExchangeTimeout: w.ExchangeTimeout,
			StoreTimeout: w.StoreTimeout,
		})
	if err != nil {
		return renewerJob{}, err
	}
	keeper, err := credentials.NewKeeper(m, &credentials.KeeperOptions{Parallel: w.Parallel})
	if err != nil {
		return renewerJob{}, err
	}
	stats := func() credentials.KeeperStats { return keeper.Stats()[alice.Service] }
	return renewerJob{run: keeper.Run, finish: m.Close, stats: stats}, nil
}

func (w renewerWork) refresher() credentials.Refresher {
	if w.TokenURL != "" {
		return refresherAt(w.TokenURL)
	}
	return credentials.RefresherFunc(func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
		time.Sleep(w.Latency)
		n, generation, ok := parseToken(in.RefreshToken.Reveal())
		if !ok {
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.ClassDead,
				Reason: "no such token"}
		}
		return massGrant(n, generation+1), nil
	})
}

// start is the job of a bare loop: it claims and saves row after row.
func (w *bareWrites) start(db *sql.DB) (renewerJob, error) {
	var next, done atomic.Int64
	write := func(ctx context.Context) error {
		for ctx.Err() == nil {
			id := w.First + int(next.Add(1)-1)*w.Step
			if id > w.Last {
				return errors.New("there are no rows left; seed more")
			}
			for _, statement := range []string{w.Claim, w.Save} {
				statement = strings.ReplaceAll(statement, rowID, fmt.Sprint(id))
				if _, err := db.ExecContext(context.WithoutCancel(ctx), statement); err != nil {
					return err
				}
			}
			done.Add(1)
		}
		return nil
	}
	return renewerJob{
		run: func(ctx context.Context) (failed error) {
			errs := make(chan error, w.Parallel)
			for range w.Parallel {
				go func() { errs <- write(ctx) }()
			}
			for range w.Parallel {
				failed = errors.Join(failed, <-errs)
			}
			return failed
		},
		finish: func(context.Context) error { return nil },
		stats: func() credentials.KeeperStats {
			return credentials.KeeperStats{Renewed: int(done.Load())}
		},
	}, nil
}

// renewer is the test's side of such a process.
type renewer struct {
	*process.Process[credentials.KeeperStats]
}

// startRenewers starts n processes with that work, in which each has a holder of its own:
// "renewer 0" and so on.
func startRenewers(t testing.TB, n int, w renewerWork, change func(i int, w *renewerWork)) []renewer {
	t.Helper()
	renewers := make([]renewer, n)
	for i := range renewers {
		w.Holder = fmt.Sprint("renewer ", i)
		own := w
		if change != nil {
			change(i, &own)
		}
		renewers[i] = renewer{process.Start[credentials.KeeperStats](t, "renewer", own.Holder, own)}
	}
	return renewers
}

// stats asks the process for its figures so far.
func (r renewer) stats() credentials.KeeperStats {
	r.Tell(true)
	return r.Next("its figures", nil)
}

// stop lets the process end its exchanges, and returns its figures in all.
func (r renewer) stop() credentials.KeeperStats {
	r.CloseOrders()
	stats := r.Next("its figures", nil)
	r.Ends()
	return stats
}

// renewed is how many renewals these processes have saved so far.
func renewed(renewers []renewer) (n int) {
	for _, r := range renewers {
		n += r.stats().Renewed
	}
	return n
}

// stopAll stops them and returns how many renewals they have saved in all.
func stopAll(renewers []renewer) (n int) {
	for _, r := range renewers {
		n += r.stop().Renewed
	}
	return n
}
