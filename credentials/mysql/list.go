package mysql

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Filter says which credentials [Store.List] lists. The zero value: all.
type Filter struct {
	// Service is the name of their service; "" for all services.
	Service string

	// Conditions are those of which a credential has one; empty for any. The grants that are dead,
	// due or interrupted are found by an index: however many rows there are, the server reads those
	// alone, and those of dead also the credentials that never fall due. For the other conditions
	// the server reads all rows of the service.
	Conditions []credentials.Condition
}

// listPage is how many rows one statement of List reads.
const listPage = 500

// List yields the credentials that the filter asks for, by service and in the order in which they
// were made. It reads no token.
//
// The ids of a service's rows are read at once, 8 bytes of memory for each, and then the rows in
// pages, with no lock and no snapshot: each credential is yielded once at most, as it is on its
// page, and is in one of the conditions there. One that comes to be in one of them later may be
// missing. The list ends after the first error.
func (s *Store) List(ctx context.Context, f Filter) iter.Seq2[credentials.Status, error] {
	return func(yield func(credentials.Status, error) bool) {
		if err := s.list(ctx, f, func(c credentials.Status) bool { return yield(c, nil) }); err != nil {
			yield(credentials.Status{}, err)
		}
	}
}

// Status reads one credential as List does: without its secrets, and also one whose contents cannot
// be read. The error wraps [credentials.ErrNotFound] if there is none.
func (s *Store) Status(ctx context.Context, key credentials.Key) (status credentials.Status, err error) {
	if key, err = key.Normalize(); err != nil {
		return status, err
	}
	err = s.read(ctx, "read "+key.String(), func(ctx context.Context, conn *sqlx.Conn) error {
		found, err := find(ctx, conn, s.sql.selectStatus, key)
		if err == nil && found.ID == 0 {
			return credentials.ErrNotFound
		}
		c, _ := found.credential() // as in statuses
		status = c.Status()
		return err
	})
	return status, err
}

// list calls yield with each credential, until that returns false.
func (s *Store) list(ctx context.Context, f Filter, yield func(credentials.Status) bool) error {
	which, err := inOneOf(f.Conditions)
	if err != nil {
		return err
	}
	services, err := s.servicesOf(ctx, f)
	if err != nil {
		return err
	}
	for _, service := range services {
		ids, err := s.ids(ctx, s.sql.selectIDs.and(which), service)
		if err != nil {
			return err
		}
		for some := range slices.Chunk(ids, listPage) {
			page, err := s.statuses(ctx, some)
			if err != nil {
				return err
			}
			for _, c := range page {
				wanted := len(f.Conditions) == 0 || slices.Contains(f.Conditions, c.Condition)
				if wanted && !yield(c) {
					return nil
				}
			}
		}
	}
	return nil
}

// inOneOf returns the SQL that finds the rows in one of the conditions.
func inOneOf(conditions []credentials.Condition) (string, error) {
	var some []string
	for _, condition := range conditions {
		sql, ok := findCondition[condition]
		if !ok {
			return "", fmt.Errorf("list: there is no condition %q", condition)
		}
		some = append(some, sql)
	}
	if len(some) == 0 {
		return "", nil
	}
	return "\n  AND (" + strings.Join(some, "\n    OR ") + ")", nil
}

// servicesOf returns the services that have rows, or the one that the filter names.
func (s *Store) servicesOf(ctx context.Context, f Filter) (services []string, err error) {
	if f.Service != "" {
		name, err := credentials.NormalizeService(f.Service)
		return []string{name}, err
	}
	err = s.read(ctx, "list services", func(ctx context.Context, conn *sqlx.Conn) error {
		services = nil
		var service string
		return scan(ctx, conn, s.sql.selectServices.text, nil, []any{&service}, func() {
			services = append(services, service)
		})
	})
	return services, err
}

// ids returns the ids of a service's rows that the statement finds, in the order of the ids.
func (s *Store) ids(ctx context.Context, sql statement, service string) (ids []uint64, err error) {
	values, err := sql.values(map[string]any{"service": service})
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, "list "+service, func(ctx context.Context, conn *sqlx.Conn) error {
		ids = ids[:0]
		var id uint64
		return scan(ctx, conn, sql.text, values, []any{&id}, func() { ids = append(ids, id) })
	})
	slices.Sort(ids)
	return ids, err
}

// statuses reads the rows that are still there, in the order of the ids.
func (s *Store) statuses(ctx context.Context, ids []uint64) (page []credentials.Status, err error) {
	query, values, err := sqlx.In(s.sql.selectStatuses.text, ids)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, "list", func(ctx context.Context, conn *sqlx.Conn) error {
		page = page[:0]
		return each(ctx, conn, query, values, func(r row) {
			c, _ := r.credential() // which fails for the column extra alone, which was not read
			page = append(page, c.Status())
		})
	})
	return page, err
}
