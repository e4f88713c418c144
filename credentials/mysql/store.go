// Package mysql keeps credentials in a table of a MySQL 8.0+ or MariaDB 10.6+ database, which
// decides between all processes that use it.
//
// The table is made by package migrations, or by any other tool from the SQL that migrations
// exports. The store works with any options in the host's DSN (parseTime, loc, clientFoundRows,
// interpolateParams, charset and so on); interpolateParams=true saves two of three packets per
// statement, but the server's performance_schema then shows the tokens of statements that write.
//
// With [Options.AEAD] the store seals tokens in this process, each bound to its column, account and
// deployment, so that the server, its logs and its backups have none; [Store.Reseal] moves the rows
// to a new key while services go on. With [Options.Deployment] a copy of the table is of no use to
// another deployment. docs/design.md says what sealing shows and what it cannot.
//
// Every write runs in a transaction of its own: a call that succeeds is committed, whatever the
// session's autocommit and completion_type are, and work that the host left open on a connection is
// rolled back and not committed with it (TiDB and Vitess commit that work). A read is one SELECT
// without a transaction. On a connection where autocommit is off, or where the host left a
// transaction open, a read shows the row as it was at that transaction's first read. A claim still
// decides under the row's lock, so nothing is exchanged twice, but another process's renewal is
// noticed late. [Store.Check] refuses autocommit that is off.
//
// A call without a deadline ends after 30 s. Calls take turns for as many connections as the pool
// may open. A host that runs queries of its own on the same pool should set timeout and readTimeout
// in the DSN: without them, database/sql itself may wait for a server that fell silent.
package mysql

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// DefaultTable is the table's name where [Options] give none.
const DefaultTable = "credentials"

// Options change a store. Nil means the defaults.
type Options struct {
	// Table is the name of the table, without colons and question marks. Empty: DefaultTable.
	Table string

	// Database is the name of the database in which the table is, without colons and question
	// marks. Empty: that of the connection, which the DSN names.
	Database string

	// AEAD seals the access token, the refresh token and the entries beside them, each bound to its
	// column, service, account and deployment: a value that was moved does not open. Nil: they are
	// stored as they are, which the log says at the first write.
	//
	// Rows from before sealing open, and are sealed by their next write; [Store.Reseal] seals the
	// rest. A credential that does not open gives [credentials.ErrSealed].
	AEAD AEAD

	// RequireSealed refuses rows that are not sealed, as [credentials.ErrSealed], once all are:
	// nobody can then put a plain token in a sealed one's place. RequireSealed needs an AEAD.
	RequireSealed bool

	// Deployment names this installation among copies of its table, such as "production": up to 64
	// printable ASCII characters without spaces. The name is kept in each row that is written. A
	// row with another name gives [credentials.ErrOtherDeployment] and is not written; one without
	// a name is everybody's. All processes of an installation have the same name. Empty: none.
	Deployment string

	// Logger is told of what no caller is told. Nil: slog.Default().
	Logger *slog.Logger
}

// Store is a [credentials.Store] on MySQL, and has the operators' methods beside that contract:
// Put, List, Status, Delete, Disable, EndLease, Revive, Export, Import and Check, and those like
// them. A Store is safe for concurrent use. The errors wrap those of package credentials and,
// beneath them, the driver's.
type Store struct {
	db              *sqlx.DB
	database, table string
	sql             statements

	pool          func() sql.DBStats
	connections   *limiter
	sealer        *sealer
	log           *slog.Logger
	clocks        clocks
	reads, writes *outage
	caution       caution

	// These are learned from the server: see opening, control and learnForms.
	logsStatements, shortForms, formsLearned atomic.Bool
}

var _ credentials.Store = (*Store)(nil)

// NewStore returns a store on the host's pool, which the store neither tunes nor closes. NewStore
// does no I/O; see [Store.Check].
func NewStore(db *sql.DB, opts *Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("mysql.NewStore: db is nil; open one with sql.Open(\"mysql\", dsn)")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	table, log := cmp.Or(o.Table, DefaultTable), cmp.Or(o.Logger, slog.Default())
	err := errors.Join(checkName("table", table), checkName("database", o.Database), checkSealing(o))
	if err != nil {
		return nil, fmt.Errorf("mysql.NewStore: %w", err)
	}
	return &Store{
		db: sqlx.NewDb(db, "mysql"), database: o.Database, table: table, sql: statementsFor(o.Database, table),
		pool:        db.Stats,
		connections: newLimiter(func() int { return db.Stats().MaxOpenConnections }),
		reads:       newOutage(), writes: newOutage(),
		log: log,
		sealer: &sealer{
			aead: o.AEAD, deployment: o.Deployment, requireSealed: o.RequireSealed, log: log,
		},
	}, nil
}

// checkName reports a name that no server takes, or no statement.
func checkName(of, name string) error {
	if len(name) > 64 {
		return fmt.Errorf("the name of the %s has %d bytes; MySQL allows 64", of, len(name))
	}
	if strings.ContainsAny(name, ":?\x00") {
		return fmt.Errorf("the %s's name %q has a colon, a question mark or a zero byte in it, which stand "+
			"for values in statements; choose another name", of, name)
	}
	return nil
}

// checkSealing reports options of sealing that cannot be meant.
func checkSealing(o Options) error {
	if o.RequireSealed && o.AEAD == nil {
		return errors.New("RequireSealed is set without an AEAD, which would open no row; set AEAD")
	}
	odd := func(r rune) bool { return r < '!' || r > '~' }
	if len(o.Deployment) > 64 || strings.ContainsFunc(o.Deployment, odd) {
		return fmt.Errorf("the deployment's name %.80q is not made of up to 64 printable ASCII characters "+
			"without spaces; choose one such as \"production\"", o.Deployment)
	}
	return nil
}
