// Package mysql keeps credentials in a table of a MySQL 8.0+ or MariaDB 10.6+ database, which decides between all
// processes that use it.
//
// The table is made by package migrations, or by any tool from the SQL that it exports. The store works with any options
// in the host's DSN (parseTime, loc, clientFoundRows, interpolateParams, charset and so on); interpolateParams=true
// saves two of three packets per statement.
package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// DefaultTable is the table's name where [Options] give none.
const DefaultTable = "credentials"

// Options change a store. Nil means the defaults.
type Options struct {
	// Table is the name of the table. Empty: DefaultTable.
	Table string
}

// Store is a [credentials.Store] on MySQL, and what operators need beside that contract: Put, List, Delete and Check.
// It is safe for concurrent use. Its errors wrap those of package credentials and, beneath them, the driver's.
type Store struct {
	db    *sqlx.DB
	table string
	sql   statements
}

var _ credentials.Store = (*Store)(nil)

// NewStore returns a store on the host's pool, which it neither tunes nor closes. It does no I/O; see [Store.Check].
func NewStore(db *sql.DB, opts *Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("mysql.NewStore: db is nil; open one with sql.Open(\"mysql\", dsn)")
	}
	table := DefaultTable
	if opts != nil {
		table = cmp.Or(opts.Table, DefaultTable)
	}
	if len(table) > 64 {
		return nil, fmt.Errorf("mysql.NewStore: the table name has %d bytes; MySQL allows 64", len(table))
	}
	return &Store{db: sqlx.NewDb(db, "mysql"), table: table, sql: statementsFor(table)}, nil
}

// Get implements [credentials.Store].
func (s *Store) Get(ctx context.Context, key credentials.Key) (c credentials.Credential, err error) {
	key, err = key.Normalize()
	if err != nil {
		return c, err
	}
	err = s.retry(ctx, "read "+key.String(), func() error {
		c, err = s.one(ctx, s.db, s.sql.selectByKey, keyArgs(key))
		return err
	})
	return c, err
}

// mostVersions is how many rows one statement asks for. A prepared statement has at most 65,535 parameters.
const mostVersions = 10_000

// Versions implements [credentials.Store].
func (s *Store) Versions(ctx context.Context, rows []uint64) (map[uint64]uint64, error) {
	versions := make(map[uint64]uint64, len(rows))
	for some := range slices.Chunk(rows, mostVersions) {
		err := s.retry(ctx, "read versions", func() error { return s.versions(ctx, some, versions) })
		if err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// versions adds the versions of these rows.
func (s *Store) versions(ctx context.Context, rows []uint64, to map[uint64]uint64) error {
	query, args, err := sqlx.In(s.sql.selectVersions, rows)
	if err != nil {
		return err
	}
	found, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var row, version uint64
		if err := found.Scan(&row, &version); err != nil {
			return err
		}
		to[row] = version
	}
	return found.Err()
}

// Put stores a grant under key, new or in place of the one there, and revives a credential that the provider had
// declared dead. The result of an exchange that was under way is dropped. Errors wrap [credentials.ErrInvalidKey] and
// [credentials.ErrInvalidGrant], and nothing was written.
//
// After an error that wraps [credentials.ErrUnavailable] nobody knows whether the grant was stored. Get the credential
// before putting the same grant again: if it was, its refresh token may have been exchanged since, and would replace the
// one that works. An error that wraps [credentials.ErrSuperseded] says that something was written meanwhile.
func (s *Store) Put(ctx context.Context, key credentials.Key, g credentials.Grant) error {
	key, err := key.Normalize()
	if err != nil {
		return err
	}
	if err := g.Validate(); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	lifetime := cmp.Or(g.Lifetime, credentials.Never)
	if g.Token.IsZero() {
		lifetime = 0
	}
	args, err := grantArgs(g, lifetime, cmp.Or(g.RefreshLifetime, credentials.Never), g.DueIn())
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	args["service"], args["account"] = key.Service, key.Account
	var before row
	err = s.retry(ctx, "put "+key.String(), func() (err error) {
		before, err = s.find(ctx, s.db, s.sql.selectByKey, key)
		return err
	})
	if err != nil {
		return err
	}
	inDoubt := false // a try before this one may have been stored, and what it stored exchanged since
	return s.retry(ctx, "put "+key.String(), func() error {
		if !inDoubt {
			_, err := s.exec(ctx, s.db, s.sql.upsertPut, args)
			inDoubt = err != nil && !rolledBack(err)
			return err
		}
		return s.transaction(ctx, func(conn *sqlx.Conn) error {
			now, err := s.find(ctx, conn, s.sql.selectForClaim, key)
			written := now.ID != before.ID || now.Version != before.Version
			switch {
			case err != nil:
				return err
			case written && now.has(g):
				return nil
			case written:
				return fmt.Errorf("%w: nobody knows whether this grant was stored before; get the credential", credentials.ErrSuperseded)
			}
			_, err = s.exec(ctx, conn, s.sql.upsertPut, args)
			return err
		})
	})
}

// Delete removes the credential, or returns an error that wraps [credentials.ErrNotFound]. The result of an exchange
// that was under way is dropped.
func (s *Store) Delete(ctx context.Context, key credentials.Key) error {
	key, err := key.Normalize()
	if err != nil {
		return err
	}
	var before row
	replyLost := false
	return s.retry(ctx, "delete "+key.String(), func() error {
		if !replyLost {
			var err error
			if before, err = s.find(ctx, s.db, s.sql.selectByKey, key); err != nil {
				return err
			}
		}
		n, err := s.exec(ctx, s.db, s.sql.deleteRow, map[string]any{"row": before.ID}) // not what is made under the key meanwhile
		if err == nil && n == 0 && !replyLost {
			return credentials.ErrNotFound
		}
		replyLost = replyLost || err != nil // this try may have been the one that deleted it
		return err
	})
}

// List yields the credentials of a service, or all for "", in the order in which they were made. It ends after the
// first error. The pages are read one by one: a credential that is written meanwhile is yielded once, as it was on its
// page.
func (s *Store) List(ctx context.Context, service string) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		if service != "" {
			name, err := credentials.NormalizeService(service)
			if err != nil {
				yield(credentials.Credential{}, err)
				return
			}
			service = name
		}
		for after := uint64(0); ; {
			var page []row
			err := s.retry(ctx, "list", func() (err error) {
				page, err = s.all(ctx, s.db, s.sql.selectPage, map[string]any{"after": after, "service": service})
				return err
			})
			if err != nil {
				yield(credentials.Credential{}, err)
				return
			}
			for _, r := range page {
				c, err := r.credential()
				if !yield(c, err) || err != nil {
					return
				}
				after = r.ID
			}
			if len(page) == 0 {
				return
			}
		}
	}
}

// find returns the row under the key, also one whose contents cannot be read; the zero row if there is none.
func (s *Store) find(ctx context.Context, q sqlx.QueryerContext, named string, key credentials.Key) (row, error) {
	found, err := s.all(ctx, q, named, keyArgs(key))
	if err != nil || len(found) == 0 {
		return row{}, err
	}
	return found[0], nil
}

func keyArgs(key credentials.Key) map[string]any {
	return map[string]any{"service": key.Service, "account": key.Account}
}

// one runs a SELECT of `columns` that finds at most one row.
func (s *Store) one(ctx context.Context, q sqlx.QueryerContext, named string, args map[string]any) (credentials.Credential, error) {
	found, err := s.all(ctx, q, named, args)
	switch {
	case err != nil:
		return credentials.Credential{}, err
	case len(found) == 0:
		return credentials.Credential{}, credentials.ErrNotFound
	}
	return found[0].credential()
}

// all runs a SELECT of `columns`.
func (s *Store) all(ctx context.Context, q sqlx.QueryerContext, named string, args map[string]any) (found []row, err error) {
	query, values, err := sqlx.Named(named, args)
	if err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(r.targets()...); err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

// exec runs a write and returns the number of rows affected.
func (s *Store) exec(ctx context.Context, e sqlx.ExecerContext, named string, args map[string]any) (int64, error) {
	query, values, err := sqlx.Named(named, args)
	if err != nil {
		return 0, err
	}
	result, err := e.ExecContext(ctx, query, values...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
