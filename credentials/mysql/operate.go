package mysql

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Disable marks the credential: nobody gets its token from then on, and no exchange begins. A
// process that holds the token notices within [credentials.Options].Recheck. An exchange that is
// under way runs to its end, and its result is stored: the callers of its process get that token,
// until the process notices within Recheck of the save. Later puts and results keep the mark. A
// credential that is disabled already stays as it is, under the name of whoever disabled it first.
//
// Errors wrap [credentials.ErrNotFound], and [credentials.ErrSuperseded] if the credential is not
// the one that the operator saw.
func (s *Store) Disable(ctx context.Context, ch credentials.Change) error {
	if ch.By == "" {
		return fmt.Errorf("disable %s: Change.By is empty; say who disables it", ch.Key)
	}
	return s.operate(ctx, operation{
		Change: ch, name: "disable", sql: s.sql.updateDisable,
		done: func(now, _ row) bool { return now.DisabledBy != "" },
	})
}

// Enable takes the mark off that Disable has made. The credential is due when its lease or its
// back-off ends, otherwise at once. One that is not disabled stays as it is. Errors are those of
// Disable.
func (s *Store) Enable(ctx context.Context, ch credentials.Change) error {
	return s.operate(ctx, operation{
		Change: ch, name: "enable", sql: s.sql.updateEnable,
		done: func(now, _ row) bool { return now.DisabledBy == "" },
	})
}

// EndLease ends the lease that stands in the row, live or ended, so that others need not wait for
// it and for the grace. The outcome of its exchange is unknown from then on, by the name of its
// holder: the next claim follows the service's Replay, and gives the holder the grace to save. A
// holder that lives may still present the refresh token; its success is stored unless a later one
// is, and its failure is not.
//
// Errors are those of Disable; one wraps [credentials.ErrNotApplicable] if there is no lease.
func (s *Store) EndLease(ctx context.Context, ch credentials.Change) error {
	return s.operate(ctx, operation{
		Change: ch, name: "end the lease of", sql: s.sql.updateEndLease,
		done: func(now, tried row) bool {
			return tried.ID != 0 && (now.ID != tried.ID || now.LeaseID != tried.LeaseID)
		},
		fits: func(now row) error {
			if now.LeaseID == "" {
				return fmt.Errorf("%w: no lease stands in the row", credentials.ErrNotApplicable)
			}
			return nil
		},
	})
}

// ReviveOne clears the mark of one dead grant, whatever it died of, and has it due at once. With
// replay, what is known of an interrupted exchange is cleared too: a service's NeverReplay then
// lets the refresh token be presented again, which a provider may take for reuse.
//
// Errors are those of Disable; one wraps [credentials.ErrNotApplicable] if the grant is not dead.
func (s *Store) ReviveOne(ctx context.Context, ch credentials.Change, replay bool) error {
	return s.operate(ctx, operation{
		Change: ch, name: "revive", sql: s.sql.updateReviveOne, replay: replay,
		done: func(now, tried row) bool {
			return tried.ID != 0 && now.FailureClass != string(credentials.ClassDead)
		},
		fits: func(now row) error {
			if now.FailureClass != string(credentials.ClassDead) {
				return fmt.Errorf("%w: the grant is not dead", credentials.ErrNotApplicable)
			}
			return nil
		},
	})
}

// operation is one change of one row by an operator.
type operation struct {
	credentials.Change
	name    string
	sql     statement
	replay  bool
	removes bool // the row, so that it is done where there is none

	// done reports whether the row is as the change would leave it. tried is the row on which the
	// first try wrote whose reply was lost; else zero.
	done func(now, tried row) bool

	// fits returns why the change cannot be made on the row; nil: any row fits.
	fits func(now row) error
}

// operate makes the change in a transaction that locks the row, decides and writes.
func (s *Store) operate(ctx context.Context, o operation) (err error) {
	if o.Change, err = o.Normalize(); err != nil {
		return err
	}
	action := o.name + " " + o.Key.String()
	var now, tried row // as this try finds it; as the first one found it whose reply was lost
	return s.change(ctx, action, func(ctx context.Context, inDoubt bool) error {
		if inDoubt && tried.ID == 0 {
			tried = now
		}
		return s.transaction(ctx, oneRow, func(conn *sqlx.Conn) error {
			found, err := find(ctx, conn, s.selectForUpdate(), o.Key)
			if err != nil {
				return err
			}
			now = found
			return s.operateOn(ctx, conn, o, now, tried)
		})
	})
}

// operateOn makes the change on the row in the transaction that is open on conn.
func (s *Store) operateOn(ctx context.Context, conn *sqlx.Conn, o operation, now, tried row) error {
	if now.ID == 0 && !(o.removes && tried.ID != 0) {
		return credentials.ErrNotFound
	}
	if err := s.owns(now); err != nil {
		return err
	}
	if o.done(now, tried) {
		return nil
	}
	if err := o.Moved(now.ID, now.Version); err != nil {
		return err
	}
	if o.fits != nil {
		if err := o.fits(now); err != nil {
			return err
		}
	}
	args := rowArgs(o.Key, now.ID)
	args["seen"], args["by"], args["replay"] = now.Version, o.By, o.replay
	n, err := exec(ctx, conn, o.sql, args)
	if err == nil && n == 0 {
		return errLostRace
	}
	return err
}
