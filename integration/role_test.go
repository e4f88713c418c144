package integration_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
	"github.com/latchkey-go/latchkey/migrations"
)

// roles are the processes that tests need.
var roles = map[string]process.Role{
	"asker":     askOn,
	"client":    doWork(useAPI),
	"container": keepContainer,
	"migrator":  doWork(migrateOnce),
	"putter":    doWork(putMany),
	"renewer":   renew,
	"reporter":  reportOn,
	"service":   serve,
}

// openDSN returns a pool of at most that many connections, or of any number for 0.
func openDSN(dsn string, connections int) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	config.Logger = &mysql.NopLogger{} // connections are cut on purpose
	db := open(config)
	db.SetMaxOpenConns(connections)
	return db, nil
}

// work is the work of a migrator, a putter or a client, on DSN.
type work struct {
	DSN  string
	Puts int // of a putter

	URL     string // of the API that a client uses
	Callers int    // of a client
}

// inProcesses runs n processes in that role and fails the test unless all of them succeed. They
// begin when the last of them is ready.
func inProcesses(t *testing.T, n int, role string, w work) {
	t.Helper()
	processes := make([]*process.Process[bool], n)
	for i := range processes {
		processes[i] = process.Start[bool](t, role, fmt.Sprint(role, " ", i), w)
	}
	for _, p := range processes {
		p.Next("that it is ready", nil)
	}
	for _, p := range processes {
		p.Tell(true)
	}
	for _, p := range processes {
		p.Ends()
	}
}

// doWork is a role that connects, says that it is ready, and does its work when the next order
// comes.
func doWork(do func(context.Context, work, *sql.DB) error) process.Role {
	return func(orders *json.Decoder, says *json.Encoder) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var w work
		if err := orders.Decode(&w); err != nil {
			return err
		}
		db, err := openDSN(w.DSN, 0)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		if err := errors.Join(db.PingContext(ctx), says.Encode(true)); err != nil {
			return err
		}
		var begin bool
		if err := orders.Decode(&begin); err != nil {
			return err
		}
		return do(ctx, w, db)
	}
}

// migrateOnce is the work of the migrator.
func migrateOnce(ctx context.Context, _ work, db *sql.DB) error {
	return errOf(migrations.Up(ctx, db, nil))
}

// putMany is the work of the putter: concurrent puts of alice's key, and each of a key of its own.
func putMany(ctx context.Context, w work, db *sql.DB) error {
	store, err := latchkey.NewStore(db, nil)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for i := range w.Puts {
		go func() {
			name := fmt.Sprintf("%d of %d", i, os.Getpid())
			grant := credentials.Grant{AccessToken: credentials.NewSecret(name),
				Lifetime: time.Hour}
			err := store.Put(ctx, alice, grant)
			if err == nil {
				err = store.Put(ctx, keyOf(name), grant)
			}
			errs <- err
		}()
	}
	var failed error
	for range w.Puts {
		failed = errors.Join(failed, <-errs)
	}
	return failed
}
