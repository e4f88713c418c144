// Package worker is what a worker process of a storm runs: the callers, and the recording of their
// manager's actions.
package worker

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Started reports whether a storm started this process as a worker. The process's main (or
// TestMain) then calls [Run] and nothing else.
func Started() bool { return os.Getenv(wire.WorkerEnv) != "" }

// Run takes part in a storm: it reads a job and the parent's orders from stdin, and writes messages
// to stdout. Run returns when the job is done, when ctx ends, or when stdin ends because the parent
// is gone. The process ignores interrupts from then on.
func Run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	// A Ctrl-C on the terminal reaches the workers too. The parent decides when they end.
	signal.Ignore(os.Interrupt)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLink(stdout)
	decoder := json.NewDecoder(stdin)
	var job wire.Job
	if err := decoder.Decode(&job); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	// The reading goroutine notices the end of stdin in the middle of a round too, and ends with
	// stdin or, at the latest, with the process.
	go func() { cancel(fmt.Errorf("the parent is gone: %w", l.receive(ctx, decoder))) }()

	err := work(ctx, job, l)
	if err != nil {
		_ = l.send(wire.Message{Error: err.Error()}) // Nobody reads a closed pipe.
	}
	return err
}

// worker is a process that is connected to the server.
type worker struct {
	wire.Job

	link        *link
	db          *sql.DB
	rows        credentials.Store
	connections *Connections
	numbers     map[string]int // The index of each account, by name.
}

// work connects to the server and does the job.
func work(ctx context.Context, job wire.Job, l *link) error {
	cfg, err := mysql.ParseDSN(job.DSN)
	if err != nil {
		return errors.New("the DSN cannot be read") // The driver's error may quote the password.
	}
	cfg.Logger = &mysql.NopLogger{}
	db, connections, err := Open(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(job.Pool)
	db.SetMaxIdleConns(job.Pool)
	if !job.Chaos { // Under chaos the server may be down.
		if err := warm(ctx, db, job.Pool); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	rows, err := openStore(db, job)
	if err != nil {
		return err
	}
	w := &worker{
		Job: job, link: l, db: db, rows: rows, connections: connections, numbers: make(map[string]int),
	}
	for i, name := range job.Accounts {
		w.numbers[name] = i
	}
	switch {
	case job.Chaos:
		return w.chaos(ctx)
	case job.AskFor > 0:
		return w.lifetimes(ctx)
	}
	for round := job.First; round <= job.Rounds; round++ {
		if err := w.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// warm opens n connections, so that the round does not measure their opening. The pool keeps them.
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
