// Package storm is the load that shows whether one exchange per expiry is really enough: worker
// processes of many threads that all ask for the tokens of the same accounts at the same moment,
// against a real server and a real token endpoint. A report counts the calls of the endpoint.
//
// [Run] is the parent: it starts the endpoint, seeds accounts whose tokens have expired, starts its
// own program again as workers (package worker), gives the signal for each round, makes the faults
// that were asked for, and has package audit hold the rows, the callers' tokens and the endpoint's
// record against each other.
package storm

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/engine"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
	"github.com/latchkey-go/latchkey/migrations"
)

// ErrTimeout is wrapped where a storm did not end within [Config.Timeout].
var ErrTimeout = errors.New("the storm did not end in time")

// parentPool bounds the parent's connections. One connection is for the queries, and one for the
// lock of a migration.
const parentPool = 3

// Run does the storm and returns its report, which lists the invariants that were violated. An
// error is returned where the storm could not be done, or not to its end: ctx's cause, or an error
// that wraps [ErrTimeout], among others. The workers and the rows are gone when Run returns.
func Run(ctx context.Context, cfg Config) (report.Report, error) {
	began := time.Now()
	if cfg.DSN == "" { // The driver would take it for a server on this machine.
		return report.Report{}, errors.New("storm: no DSN")
	}
	cfg, err := cfg.withDefaults()
	if err == nil && (cfg.Restart != "" || cfg.Outage > 0) && cfg.Database == nil {
		err = ErrNoDatabase
	}
	if err != nil {
		return report.Report{}, fmt.Errorf("storm: %w", err)
	}
	timeout := fmt.Errorf("%w (%v)", ErrTimeout, cfg.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, timeout)
	defer cancel()

	r, err := run(ctx, cfg)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // The end of ctx is the reason of the failure.
	}
	if err != nil {
		return report.Report{}, fmt.Errorf("storm: %w", err)
	}
	r.ElapsedMS = report.Milliseconds(time.Since(began))
	return r, nil
}

// storm is a run, as the parent sees it.
type storm struct {
	cfg      Config
	rows     *accounts
	provider *provider.Provider
	gate     *gate
	journal  *audit.Journal
	workers  *fleet
	job      wire.Job
	watch    func(worker, account int, did wire.Action) // See chaos.saw; nil without chaos.

	started int            // The number of workers that were started.
	pending sync.WaitGroup // Faults under way.
	rounds  []audit.Round  // The rounds that have ended.

	withdrawals, replacements int // See report.Faults.

	mu    sync.Mutex
	round int // guarded by mu
	hit   int // guarded by mu: the last round whose holder was hit
}

// run prepares the table and the accounts, and removes the accounts afterwards.
func run(ctx context.Context, cfg Config) (r report.Report, err error) {
	cfg.Progress("preparing the table")
	db, err := openParent(cfg.DSN)
	if err != nil {
		return r, err
	}
	defer func() { _ = db.Close() }()
	if err := checkServer(ctx, db, &cfg); err != nil {
		return r, err
	}
	if _, err := migrations.Up(ctx, db, nil); err != nil {
		return r, fmt.Errorf("migrate: %w", err)
	}
	rows, err := newAccounts(db, cfg)
	if err != nil {
		return r, err
	}
	if err := rows.store.Check(ctx); err != nil {
		return r, err
	}
	defer func() {
		// The rows are removed after an interrupt too, and in bounded time.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if removeErr := rows.remove(ctx); removeErr != nil && err == nil {
			err = fmt.Errorf("remove the storm's rows: %w", removeErr)
		}
	}()
	secret := rand.Text()
	s := &storm{
		cfg: cfg, rows: rows, provider: provider.New(cfg.providerOptions(secret)),
		journal: audit.NewJournal(), job: cfg.job(), started: cfg.Processes,
	}
	s.job.Service, s.job.Accounts, s.job.ClientSecret = rows.service, rows.names, secret
	if cfg.Keyset != nil {
		text, err := cfg.Keyset.Text()
		if err != nil {
			return r, err
		}
		s.job.Keyset = string(text)
	}
	return s.run(ctx)
}

// run starts the token endpoint and the workers, and does the storm.
func (s *storm) run(ctx context.Context) (r report.Report, err error) {
	if s.cfg.Lifetimes == 0 {
		if err := s.seed(ctx); err != nil {
			return r, err
		}
	}
	s.gate, err = openGate(s.provider, s.cfg.Seed, func(worker int, account string) {
		if s.watch != nil {
			s.watch(worker, slices.Index(s.rows.names, account), presenting)
		}
	})
	if err != nil {
		return r, err
	}
	defer s.gate.close()
	do := s.doRounds
	switch {
	case s.cfg.Chaos:
		do = newChaos(s).run
	case s.cfg.Lifetimes > 0:
		do = s.lifetimes
	}

	s.cfg.Progress(fmt.Sprintf("starting %d processes", s.cfg.Processes))
	s.job.TokenURL = s.gate.url
	s.workers, err = startFleet(ctx, s.cfg.Command, s.cfg.Processes, s.job, s.receive)
	if err != nil {
		return r, err
	}
	defer s.workers.stop(2 * time.Second)

	err = do(ctx)
	dead, violation := (*deadWorkerError)(nil), (*violationError)(nil)
	if ctx.Err() == nil && (errors.As(err, &dead) || errors.As(err, &violation)) {
		s.journal.Violated("%v", err)
		err = nil
	}
	if err != nil {
		return r, err
	}
	s.pending.Wait()
	return s.report(ctx)
}

// violationError ends a storm early, since an invariant was violated.
type violationError struct{ text string }

func (v *violationError) Error() string { return v.text }

// receive takes a record or a question from a worker. The goroutine that reads from the worker
// calls receive, which must not wait for anything.
func (s *storm) receive(p *process, m wire.Message) {
	if m.Question != nil {
		s.answer(p, *m.Question)
		return
	}
	s.journal.Add(p.worker, *m.Record)
	if s.watch != nil {
		s.watch(p.worker, m.Record.Account, m.Record.Action)
	}
}

// report has the audit judge the storm.
func (s *storm) report(ctx context.Context) (report.Report, error) {
	rows, err := s.rows.read(ctx, s.provider)
	if err != nil {
		return report.Report{}, err
	}
	cfg, stats, log := s.cfg, s.provider.Stats(), s.journal.Log()
	r := report.New(stats, s.rows.names)
	r.Server, r.Processes, r.Threads, r.Pool = cfg.Server, cfg.Processes, cfg.Threads, cfg.Pool
	r.Sealed = cfg.Keyset != nil
	r.EndpointLatencyMS = report.Milliseconds(cfg.Latency)
	if !cfg.Chaos && cfg.Lifetimes == 0 {
		r.Rounds = cfg.Rounds
	}
	for _, violation := range log.Violations {
		r.Violated("%s", violation)
	}
	switch {
	case cfg.Lifetimes > 0:
		r.Renewals = &report.Renewals{
			Lifetimes: cfg.Lifetimes, LifetimeMS: report.Milliseconds(cfg.Lifetime),
		}
		round := audit.Round{Rows: rows, Stats: stats}
		if len(s.rounds) > 0 {
			round.Results = s.rounds[0].Results
		}
		audit.Lifetimes(&r, round, cfg.Lifetime, s.provider.Issues())
	case cfg.Faulty():
		r.Faults = &report.Faults{Fault: cfg.fault(), Provider: string(cfg.Reuse)}
		if cfg.Chaos {
			r.Seed, r.DurationMS = cfg.Seed, report.Milliseconds(cfg.Duration)
			r.ProviderFaults = s.gate.faultCounts()
		}
		log.Withdrawals, log.Replacements = s.withdrawals, s.replacements
		audit.Faults(&r, audit.Evidence{
			Log: log, Chaos: cfg.Chaos, Grace: cfg.Reuse == Grace, Rounds: s.rounds,
			Presentations: s.gate.presentations(), Provider: s.provider.Presentations(), Rows: rows,
		})
	default:
		audit.Rounds(&r, s.rounds)
	}
	return r, nil
}

// checkServer reports whether the server allows as many connections as the workers may open, and
// names the server in cfg.
func checkServer(ctx context.Context, db *sql.DB, cfg *Config) error {
	name, err := engine.Name(ctx, db)
	if err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	cfg.Server = cmp.Or(cfg.Server, name)
	var allowed int
	if err := db.QueryRowContext(ctx, "SELECT @@max_connections").Scan(&allowed); err != nil {
		return fmt.Errorf("ask the server for its limits: %w", err)
	}
	if needed := cfg.Processes*cfg.Pool + parentPool; allowed > 0 && needed > allowed { // TiDB's 0 is no limit
		return fmt.Errorf("%d processes with a pool of %d need up to %d connections, the server allows "+
			"%d; choose a smaller pool", cfg.Processes, cfg.Pool, needed, allowed)
	}
	return nil
}

func openParent(dsn string) (*sql.DB, error) {
	// The driver's errors may quote the password.
	bad := errors.New(
		`the DSN cannot be read; it looks like user:password@tcp(host:3306)/database`)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, bad
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, bad
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(parentPool)
	return db, nil
}
