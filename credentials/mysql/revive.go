package mysql

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// reviveBatch is how many grants one transaction revives.
const reviveBatch = 500

// Revive clears the mark of grants that were declared dead by mistake, and returns how many: see
// [credentials.Revival]. Each transaction revives 500 at most, and is committed before Each is told
// their names. After an error, or when ctx has ended, a repeated call goes on with the rest.
func (s *Store) Revive(ctx context.Context, r credentials.Revival) (revived int, err error) {
	if r, err = r.Normalize(); err != nil {
		return 0, err
	}
	began, err := s.timeOfServer(ctx)
	if err != nil {
		return 0, err
	}
	v := &revival{store: s, Revival: r, began: began, action: "revive dead grants of " + r.Service}
	for {
		found, err := v.next(ctx)
		if err != nil || len(found) == 0 {
			return v.revived, err
		}
		v.after = found[len(found)-1].id
		v.revived += len(found)
		for _, one := range found {
			r.Each(one.key)
		}
	}
}

// timeOfServer returns the time by the server's clock, since 1970.
func (s *Store) timeOfServer(ctx context.Context) (now time.Duration, err error) {
	var micros int64
	err = s.read(ctx, "read the server's clock", func(ctx context.Context, conn *sqlx.Conn) error {
		return scan(ctx, conn, selectNow, nil, []any{&micros}, func() {})
	})
	return duration(micros), err
}

// revival is the work of one call of Revive, batch by batch in the order of the rows' ids.
type revival struct {
	credentials.Revival
	store   *Store
	action  string
	began   time.Duration // by the server's clock: what is marked later is not revived
	after   uint64        // the last row that was dealt with
	revived int
}

// next revives the next batch, or finds it in a dry run.
func (v *revival) next(ctx context.Context) (found []rowName, err error) {
	s := v.store
	if v.DryRun {
		err = s.read(ctx, v.action, func(ctx context.Context, conn *sqlx.Conn) (err error) {
			found, err = v.find(ctx, conn, s.sql.selectDead)
			return err
		})
		return found, err
	}
	var inDoubt []rowName // the batch of an earlier try that may have been committed
	err = s.write(ctx, v.action, func(ctx context.Context) error {
		err := s.transaction(ctx, manyRows, func(conn *sqlx.Conn) (err error) {
			if found, err = v.find(ctx, conn, s.sql.lockDead); err != nil {
				return err
			}
			if len(inDoubt) > 0 && (len(found) == 0 || found[0].id > inDoubt[len(inDoubt)-1].id) {
				found = inDoubt // it was committed
				return nil
			}
			return v.revive(ctx, conn, found)
		})
		if mayBeCommitted(err) {
			inDoubt = found
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (v *revival) find(ctx context.Context, conn *sqlx.Conn, sql statement) (found []rowName, err error) {
	values, err := sql.values(map[string]any{
		"service":     v.Service,
		"after":       v.after,
		"interrupted": credentials.CodeInterrupted,
		"unknown":     credentials.CodeUnknown,
		"since":       micros(v.began - v.Since),
		"began":       micros(v.began),
		"limit":       reviveBatch,
		"deployment":  v.store.sealer.deployment,
	})
	if err != nil {
		return nil, err
	}
	return findNames(ctx, conn, sql.text, values, v.Service)
}

// revive clears the marks in the transaction that is open on conn and has locked the rows.
func (v *revival) revive(ctx context.Context, conn *sqlx.Conn, rows []rowName) error {
	if len(rows) == 0 {
		return nil
	}
	n, err := exec(ctx, conn, v.store.sql.updateRevive.and(byRows(rows)+" AND failure_class = 'dead'"), map[string]any{
		"due":   micros(v.began + v.DueIn(v.revived)),
		"width": micros(v.DueIn(len(rows))),
	})
	if err == nil && n != int64(len(rows)) {
		return errLostRace
	}
	return err
}
