package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

// renewerWork is what a process of the role "renewer" does: it keeps alice's service until its stdin ends. To each line
// there it answers with what it has kept so far.
type renewerWork struct {
	DSN    string
	Pool   int    // connections at most
	Holder string // the process's name in the rows

	TokenURL string        // empty: the exchange is a pause of Latency, in the process
	Latency  time.Duration // of such an exchange

	Parallel                             int // KeepParallel
	Lease, ExchangeTimeout, StoreTimeout time.Duration

	Bare *bareWrites // what it does instead of keeping
}

// bareWrites are the two UPDATEs of a refresh and nothing else, on the rows with ids of First, First+Step and so on, by
// Parallel goroutines.
type bareWrites struct {
	Claim, Save       string // with rowID for the row's id
	First, Step, Last int
	Parallel          int
}

const rowID = "{id}"

// renew is the role of the renewer.
func renew(stdin io.Reader, stdout io.Writer) error {
	in, out := bufio.NewReader(stdin), json.NewEncoder(stdout)
	var w renewerWork
	if err := readWork(in, &w); err != nil {
		return err
	}
	config, err := mysql.ParseDSN(w.DSN)
	if err != nil {
		return err
	}
	db := open(config)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(w.Pool)

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var kept func() credentials.Kept
	var work func() error
	finish := func(context.Context) error { return nil }
	if w.Bare != nil {
		var done atomic.Int64
		kept = func() credentials.Kept { return credentials.Kept{Renewed: int(done.Load())} }
		work = func() error {
			return w.Bare.write(ctx, &done, func(statement string) error {
				_, err := db.ExecContext(context.WithoutCancel(ctx), statement)
				return err
			})
		}
	} else {
		store, err := latchkey.NewStore(db, nil)
		if err != nil {
			return err
		}
		m, err := credentials.NewManager(store,
			credentials.Services{alice.Service: {Refresher: w.refresher(), KeepParallel: w.Parallel}},
			&credentials.Options{Holder: w.Holder, Lease: w.Lease, ExchangeTimeout: w.ExchangeTimeout, StoreTimeout: w.StoreTimeout})
		if err != nil {
			return err
		}
		kept = func() credentials.Kept { return m.Kept()[alice.Service] }
		work = func() error { return m.Keep(ctx) }
		finish = m.Close
	}
	ended := make(chan error, 1)
	go func() { ended <- work() }()
	for {
		if _, err := in.ReadBytes('\n'); err != nil {
			break // whoever wrote there wants this to end, or has ended
		}
		if err := out.Encode(kept()); err != nil {
			return err
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	finishing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := finish(finishing); err != nil {
		return err
	}
	return out.Encode(kept())
}

func (w renewerWork) refresher() credentials.Refresher {
	if w.TokenURL != "" {
		return refresherAt(w.TokenURL)
	}
	return credentials.RefresherFunc(func(ctx context.Context, c credentials.Credential) (credentials.Grant, error) {
		time.Sleep(w.Latency)
		n, generation, ok := parseToken(c.RefreshToken.Reveal())
		if !ok {
			return credentials.Grant{}, &credentials.RefreshError{Class: credentials.Rejected, Reason: "no such token"}
		}
		return massGrant(n, generation+1), nil
	})
}

// write claims and saves row after row until ctx ends.
func (w *bareWrites) write(ctx context.Context, done *atomic.Int64, execute func(statement string) error) error {
	var next atomic.Int64
	errs := make(chan error, w.Parallel)
	for range w.Parallel {
		go func() {
			for ctx.Err() == nil {
				id := w.First + int(next.Add(1)-1)*w.Step
				if id > w.Last {
					errs <- errors.New("there are no rows left; seed more")
					return
				}
				text := fmt.Sprint(id)
				err := execute(strings.ReplaceAll(w.Claim, rowID, text))
				if err == nil {
					err = execute(strings.ReplaceAll(w.Save, rowID, text))
				}
				if err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
			errs <- nil
		}()
	}
	var failed error
	for range w.Parallel {
		failed = errors.Join(failed, <-errs)
	}
	return failed
}

// renewer is such a process.
type renewer struct{ *roleProcess }

// startRenewers starts n processes with that work, in which each has a holder of its own: "renewer 0" and so on.
func startRenewers(t testing.TB, n int, w renewerWork, change func(i int, w *renewerWork)) []*renewer {
	t.Helper()
	renewers := make([]*renewer, n)
	for i := range renewers {
		w.Holder = fmt.Sprint("renewer ", i)
		own := w
		if change != nil {
			change(i, &own)
		}
		renewers[i] = &renewer{startRole(t, "renewer", own.Holder, own)}
	}
	return renewers
}

// kept asks it what it has kept so far.
func (r *renewer) kept(t testing.TB) (kept credentials.Kept) {
	t.Helper()
	_, err := r.stdin.Write([]byte("\n"))
	r.answer(t, err, &kept)
	return kept
}

// stop lets it end what is under way, and returns what it has kept in all.
func (r *renewer) stop(t testing.TB) (kept credentials.Kept) {
	t.Helper()
	r.answer(t, r.stdin.Close(), &kept)
	r.ends(t)
	return kept
}

// renewed is how many renewals these processes have saved so far.
func renewed(t testing.TB, renewers []*renewer) (n int) {
	t.Helper()
	for _, r := range renewers {
		n += r.kept(t).Renewed
	}
	return n
}

// stopAll stops them and returns how many renewals they have saved in all.
func stopAll(t testing.TB, renewers []*renewer) (n int) {
	t.Helper()
	for _, r := range renewers {
		n += r.stop(t).Renewed
	}
	return n
}
