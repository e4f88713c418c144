package storm

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	store "github.com/latchkey-go/latchkey/credentials/mysql"
)

// Worker takes part in a storm as one of its processes: it reads its job and the signals from stdin and writes what
// its callers got to stdout. It returns when the job is done, ctx ends, or stdin does, since then the parent is gone.
// From then on the process ignores interrupts.
func Worker(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	// A Ctrl-C on the terminal reaches the workers too. The parent decides what becomes of them.
	signal.Ignore(os.Interrupt)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLink(stdout)

	decoder := json.NewDecoder(stdin)
	var j job
	if err := decoder.Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	// One goroutine reads, so that the end of stdin is noticed in the middle of a round too. It ends with stdin or, at
	// the latest, with the process.
	go func() {
		for {
			var o order
			if err := decoder.Decode(&o); err != nil {
				cancel(fmt.Errorf("the parent is gone: %w", err))
				return
			}
			if o.Reply != 0 {
				l.reply(o)
				continue
			}
			select {
			case l.orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()

	err := j.work(ctx, l)
	if err != nil {
		_ = l.say(message{Error: err.Error()}) // on a closed pipe nobody reads it
	}
	return err
}

// work connects and does the rounds.
func (j job) work(ctx context.Context, l *link) error {
	cfg, err := mysql.ParseDSN(j.DSN)
	if err != nil {
		return errBadDSN
	}
	cfg.Logger = &mysql.NopLogger{}
	db, connections, err := Open(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(j.Pool)
	db.SetMaxIdleConns(j.Pool)
	if !j.Chaos { // the server may be down
		if err := warm(ctx, db, j.Pool); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	rows, err := store.NewStore(db, nil)
	if err != nil {
		return err
	}
	w := &worker{job: j, link: l, db: db, rows: rows, connections: connections}
	if j.Chaos {
		return w.chaos(ctx)
	}
	if j.Asking > 0 {
		return w.askOn(ctx)
	}
	for round := j.First; round <= j.Rounds; round++ {
		if err := w.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// warm opens n connections, so that the round does not measure that. The pool keeps them.
func warm(ctx context.Context, db *sql.DB, n int) error {
	for range n {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
	}
	return nil
}

// worker is what a process has when it is connected.
type worker struct {
	job

	link        *link
	db          *sql.DB
	rows        credentials.Store
	connections *Connections
	log         *callLog // nil but in a storm over several lifetimes
}

// manager returns a new one, and what looks at the connections of its flights.
func (w *worker) manager() (*credentials.Manager, *watchedRefresher, error) {
	exchange := &watchedRefresher{Refresher: w.refresher(w.TokenURL), connections: w.connections}
	rows := w.rows
	if w.Faulty {
		rows = newWatchedStore(w)
		exchange.Refresher = credentials.RefresherFunc(w.recordedExchange)
	}
	if w.log != nil {
		rows, exchange.Refresher = w.log.watch(rows, exchange.Refresher)
	}
	manager, err := credentials.NewManager(rows, credentials.Services{w.Service: {Refresher: exchange}}, w.options())
	return manager, exchange, err
}

// round has every thread ask for every account at once, with a manager of its own: its caches are cold, and so each
// round needs one exchange for each account, whatever the pace.
func (w *worker) round(ctx context.Context, round int) error {
	manager, exchange, err := w.manager()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make([]outcome, w.Threads*len(w.Accounts))
	var sent time.Time // set before the barrier falls
	barrier := make(chan struct{})
	var parked, done sync.WaitGroup
	parked.Add(len(outcomes))
	for i := range outcomes {
		done.Go(func() {
			parked.Done()
			select {
			case <-barrier:
				account := i % len(w.Accounts)
				if w.Faulty {
					w.insist(WithOwner(ctx, i), manager, account, sent)
					return
				}
				outcomes[i] = w.call(WithOwner(ctx, i), manager, account, sent)
			case <-ctx.Done():
			}
		})
	}
	defer done.Wait()
	defer cancel()
	parked.Wait()

	if err := w.link.say(message{Ready: round}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case s := <-w.link.orders:
		// The wall clock gives how long the signal took; from here on the monotonic one counts.
		now := time.Now()
		sent = now.Add(-max(0, time.Duration(now.UnixNano()-s.Sent)))
	}
	close(barrier)
	done.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := w.close(ctx, manager, exchange)
	if err != nil {
		return err
	}
	r.Round = round
	if !w.Faulty {
		r.Callers = outcomes
	}
	return w.link.say(message{Result: r})
}

// close ends the manager and says what its flights held.
func (w *worker) close(ctx context.Context, manager *credentials.Manager, exchange *watchedRefresher) (*result, error) {
	closing, cancel := context.WithTimeout(ctx, 10*time.Second+2*w.Lease)
	defer cancel()
	if err := manager.Close(closing); err != nil {
		return nil, fmt.Errorf("close the manager: %w", err)
	}
	// database/sql gives some connections back in the background.
	for w.db.Stats().InUse > 0 && closing.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	r := &result{InUse: w.db.Stats().InUse}
	r.Held, r.Lost = exchange.seen()
	return r, nil
}

// callLimit bounds one caller's wait. Far more than any caller should need: who waits that long hangs.
func (j job) callLimit() time.Duration { return 30*time.Second + 2*j.Latency + 3*j.Lease }

// call is one caller.
func (w *worker) call(ctx context.Context, manager *credentials.Manager, account int, sent time.Time) outcome {
	ctx, cancel := context.WithTimeout(ctx, w.callLimit())
	defer cancel()
	token, err := manager.Token(ctx, w.key(account))
	got := outcome{Account: account, Took: time.Since(sent)}
	if err != nil {
		got.Error = err.Error()
		return got
	}
	got.Token = fingerprint(token.Value)
	return got
}

func (j job) key(account int) credentials.Key {
	return credentials.Key{Service: j.Service, Account: j.Accounts[account]}
}

// errorClass sorts the errors of callers, the ones that a service can do something about: it asks again, or a person has
// to authorize the account; untyped for an error that a caller can do nothing about.
func errorClass(ctx context.Context, err error) string {
	var failed *credentials.RefreshError
	switch {
	case errors.Is(err, credentials.ErrReauthRequired):
		return "reauth_required"
	case errors.As(err, &failed) && failed.Class != "":
		return string(failed.Class)
	case errors.Is(err, credentials.ErrUnavailable):
		return "unavailable"
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return "deadline"
	}
	return untyped
}
