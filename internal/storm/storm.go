package storm

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/migrations"
)

// ErrTimeout is wrapped where a storm did not end within [Config.Timeout].
var ErrTimeout = errors.New("the storm did not end in time")

// parentPool is the parent's connections. One would do; a migration's lock takes a second.
const parentPool = 3

// Run does the storm and reports. An invariant that broke is in the report; an error is returned where the storm could
// not be done, or not to its end: ctx's cause, or one that wraps [ErrTimeout], among others. Its workers and its rows
// are gone when Run returns.
func Run(ctx context.Context, cfg Config) (Report, error) {
	began := time.Now()
	if cfg.DSN == "" {
		return Report{}, errors.New("storm: no DSN") // the driver would take it for a server on this machine
	}
	cfg, err := cfg.withDefaults()
	if err == nil && cfg.Restart != "" && cfg.Database == nil {
		err = ErrNoDatabase
	}
	if err != nil {
		return Report{}, fmt.Errorf("storm: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, fmt.Errorf("%w (%v)", ErrTimeout, cfg.Timeout))
	defer cancel()

	report, err := run(ctx, cfg)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // what fails then fails for that reason
	}
	if err != nil {
		return Report{}, fmt.Errorf("storm: %w", err)
	}
	report.ElapsedMS = milliseconds(time.Since(began))
	return report, nil
}

func run(ctx context.Context, cfg Config) (report Report, err error) {
	cfg.Progress("preparing the table")
	db, err := openParent(cfg.DSN)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = db.Close() }()
	if err := checkServer(ctx, db, &cfg); err != nil {
		return Report{}, err
	}
	if _, err := migrations.Up(ctx, db, nil); err != nil {
		return Report{}, fmt.Errorf("migrate: %w", err)
	}

	secret := rand.Text()
	p := provider.New(cfg.providerOptions(secret))
	rows, err := newAccounts(db, cfg.Accounts)
	if err != nil {
		return Report{}, err
	}
	if err := rows.store.Check(ctx); err != nil {
		return Report{}, err
	}
	defer func() {
		// Also after an interrupt, and bounded then.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if removeErr := rows.remove(ctx); removeErr != nil && err == nil {
			err = fmt.Errorf("remove the storm's rows: %w", removeErr)
		}
	}()
	if cfg.Lifetimes > 0 {
		return runLifetimes(ctx, cfg, rows, p, secret)
	}
	seeded, err := rows.seed(ctx, p)
	if err != nil {
		return Report{}, err
	}
	if cfg.Faulty() {
		return runFaulty(ctx, cfg, rows, p, secret, seeded)
	}
	endpoint, err := provider.Start("", p)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = endpoint.Close() }()

	cfg.Progress(fmt.Sprintf("starting %d processes", cfg.Processes))
	workers, err := startFleet(ctx, cfg.Command, cfg.Processes, job{
		DSN: cfg.DSN, Pool: cfg.Pool, Service: rows.service, Accounts: rows.names, Threads: cfg.Threads, First: 1,
		Rounds: cfg.Rounds, Latency: cfg.Latency, TokenURL: endpoint.TokenURL(), ClientID: clientID, ClientSecret: secret,
	}, nil)
	if err != nil {
		return Report{}, err
	}
	defer workers.stop(2 * time.Second)

	book := newLedger(cfg, rows.names)
	for round := 1; round <= cfg.Rounds; round++ {
		err := runRound(ctx, cfg, round, workers, rows, p, book)
		if dead := (*deadWorker)(nil); errors.As(err, &dead) {
			book.violated("round %d: %v", round, dead)
			break
		}
		if err != nil {
			return Report{}, fmt.Errorf("round %d: %w", round, err)
		}
	}
	return book.report(p.Stats()), nil
}

// runRound has all workers' callers ask at once, and holds what they got against the rows.
func runRound(
	ctx context.Context, cfg Config, round int, workers *fleet, rows *accounts, p *provider.Provider, book *ledger,
) error {
	ready := func(_ int, m message) error {
		if m.Ready != round {
			return fmt.Errorf("said %+v instead of being ready for round %d", m, round)
		}
		return nil
	}
	if err := workers.collect(ctx, ready); err != nil {
		return err
	}
	if round > 1 {
		if err := rows.expire(ctx); err != nil {
			return err
		}
	}
	cfg.Progress(fmt.Sprintf("round %d of %d: %d callers", round, cfg.Rounds, cfg.callersPerRound()))
	workers.tell(order{Round: round, Sent: time.Now().UnixNano()})

	results := make(map[int]result)
	take := func(worker int, m message) error {
		if m.Result == nil || m.Result.Round != round {
			return fmt.Errorf("said %+v instead of what round %d came to", m, round)
		}
		results[worker] = *m.Result
		return nil
	}
	died := workers.collect(ctx, take)
	if dead := (*deadWorker)(nil); died != nil && !errors.As(died, &dead) {
		return died
	}
	tokens, err := rows.tokens(ctx)
	if err != nil {
		return err
	}
	for worker := range cfg.Processes {
		if r, ok := results[worker+1]; ok {
			book.add(worker+1, r, tokens)
		}
	}
	book.endRound(p.Stats())
	return died
}

// checkServer reports whether the server allows as many connections as the workers may open, and names it in cfg.
func checkServer(ctx context.Context, db *sql.DB, cfg *Config) error {
	var version string
	var allowed int
	if err := db.QueryRowContext(ctx, "SELECT VERSION(), @@max_connections").Scan(&version, &allowed); err != nil {
		return fmt.Errorf("ask the server for its version and limits: %w", err)
	}
	cfg.Server = cmp.Or(cfg.Server, localmysql.VersionName(version))
	if needed := cfg.Processes*cfg.Pool + parentPool; needed > allowed {
		return fmt.Errorf("%d processes with a pool of %d need up to %d connections, the server allows %d; choose a smaller pool",
			cfg.Processes, cfg.Pool, needed, allowed)
	}
	return nil
}

func openParent(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errBadDSN // err may quote the password
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, errBadDSN
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(parentPool)
	return db, nil
}

// errBadDSN does without the driver's words, which may quote the password.
var errBadDSN = errors.New(`the DSN cannot be read; it looks like user:password@tcp(host:3306)/database`)
