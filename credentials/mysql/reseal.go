package mysql

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

const (
	// DefaultResealBatch is how many rows one transaction of Reseal and Adopt writes at most.
	DefaultResealBatch = 50

	// resealTries is how often a row is read that another write, or another's lock, comes before.
	resealTries = 5
)

// ResealOptions say how [Store.Reseal] and [Store.Adopt] go through the table, in the order of the
// rows' ids. The zero value: all of it, as fast as it goes.
type ResealOptions struct {
	// After is the id of the row after which to begin: [Resealed.Last] of a call that was broken
	// off. Zero: the first row.
	After uint64

	// Batch is how many rows one transaction writes at most, and locks for as long as their UPDATEs
	// take. Zero: DefaultResealBatch.
	Batch int

	// Rate is how many rows a second are read at most. Zero: no bound.
	Rate float64

	// DryRun counts the rows, and writes none.
	DryRun bool

	// Each is told after each batch what was done so far. Nil: nobody is told.
	Each func(Resealed)

	// Unreadable is told of each row that does not open, and why. Nil: nobody is told.
	Unreadable func(key credentials.Key, err error)
}

// Resealed counts what a call of [Store.Reseal] or [Store.Adopt] did.
type Resealed struct {
	// Last is the id of the last row that was dealt with.
	Last uint64

	// Rows is how many rows were read: Written, Current, Left, Unreadable and Foreign.
	Rows int

	// Written is how many were written, or would be in a dry run.
	Written int

	// Current is how many need nothing: they are as the store writes them, or were written or
	// deleted by others meanwhile.
	Current int

	// Left is how many need it still: they were locked, or others wrote them, at each of several
	// tries. Adopt leaves rows that are being exchanged.
	Left int

	// Unreadable is how many do not open.
	Unreadable int

	// Foreign is how many are another deployment's: not this one's, nor the one that Adopt names.
	Foreign int
}

// Reseal seals, under the AEAD's primary key, the rows that are plain or sealed under another key,
// and writes the store's deployment into the rows that have none. Services go on meanwhile: a row
// is written only if nobody wrote it since it was read, in one UPDATE of all its values.
// [Store.CountKeys] tells afterwards whether an old key is still needed. A store with RequireSealed
// does not seal plain rows: nobody knows where they come from.
//
// Before a new key becomes primary anywhere, every process has to have it. An AEAD whose
// ciphertexts do not begin as Tink's names no key, so that every row is re-sealed.
//
// After an error, or when ctx has ended, the counts are those of the batches that were finished.
func (s *Store) Reseal(ctx context.Context, opts ResealOptions) (Resealed, error) {
	if s.sealer.aead == nil && s.sealer.deployment == "" {
		return Resealed{}, errors.New("reseal: the store has neither an AEAD nor a deployment's name, " +
			"so that there is nothing to write; set mysql.Options.AEAD")
	}
	return s.reseal(ctx, &resealing{ResealOptions: opts, store: s, action: "reseal", from: s.sealer.deployment})
}

// Adopt takes over the rows of another deployment, whose table was copied to here on purpose: it
// opens them as that deployment's, and writes them as the store's own. The other deployment must
// not work on the same provider's grants any more: both would present the same refresh tokens. A
// row that is being exchanged is left; its own deployment is at work on it.
func (s *Store) Adopt(ctx context.Context, from string, opts ResealOptions) (Resealed, error) {
	switch own := s.sealer.deployment; {
	case own == "":
		return Resealed{}, errors.New("adopt: the store has no deployment's name; set mysql.Options.Deployment")
	case from == "" || from == own:
		return Resealed{}, fmt.Errorf("adopt: %q is no other deployment than %q; name the one in the rows",
			from, own)
	}
	return s.reseal(ctx, &resealing{ResealOptions: opts, store: s, action: "adopt", from: from, adopts: true})
}

// resealing is the work of one call, batch by batch.
type resealing struct {
	ResealOptions
	store  *Store
	action string
	from   string // the deployment whose rows are written
	adopts bool

	primary uint32 // the key that seals
	named   bool   // the AEAD's ciphertexts name their keys
	done    Resealed
}

func (s *Store) reseal(ctx context.Context, r *resealing) (Resealed, error) {
	r.done.Last = r.After
	if r.Batch <= 0 {
		r.Batch = DefaultResealBatch
	}
	if s.sealer.aead != nil {
		var err error
		if r.primary, r.named, err = primaryKey(s.sealer.aead); err != nil {
			return r.done, fmt.Errorf("%s: %w", r.action, err)
		}
	}
	for {
		began := time.Now()
		page, err := r.page(ctx)
		if err != nil || len(page) == 0 {
			return r.done, err
		}
		if err := r.batch(ctx, page); err != nil {
			return r.done, err
		}
		if r.Each != nil {
			r.Each(r.done)
		}
		if r.Rate > 0 {
			took := time.Duration(float64(len(page)) / r.Rate * float64(time.Second))
			sleep(ctx, took-time.Since(began), nil)
		}
	}
}

// page reads the next rows, without a lock.
func (r *resealing) page(ctx context.Context) (page []row, err error) {
	s := r.store
	err = s.read(ctx, r.action, func(ctx context.Context, conn *sqlx.Conn) (err error) {
		page, err = all(ctx, conn, s.sql.selectAfter, map[string]any{"after": r.done.Last, "limit": r.Batch})
		return err
	})
	return page, err
}

// batch deals with the rows of a page. A row that another write came before is read again.
func (r *resealing) batch(ctx context.Context, page []row) error {
	counts := r.done
	counts.Last = page[len(page)-1].ID
	counts.Rows += len(page)
	for try := 1; ; try++ {
		needy, err := r.sort(page, &counts)
		if err != nil {
			return err
		}
		missed, err := r.write(ctx, needy, &counts)
		if err != nil {
			return err
		}
		if len(missed) == 0 || try == resealTries {
			counts.Left += len(missed)
			r.done = counts
			return nil
		}
		sleep(ctx, backOff(try), nil)
		if page, err = r.store.rows(ctx, r.action, missed); err != nil {
			return err
		}
		counts.Current += len(missed) - len(page) // these were deleted
	}
}

// resealed is a row, and its values as they are to be written.
type resealed struct {
	row
	sealed secrets
}

// sort counts the rows that need nothing, or can get nothing, and returns the others sealed.
func (r *resealing) sort(page []row, counts *Resealed) (needy []resealed, err error) {
	sealer := r.store.sealer
	for _, found := range page {
		named := found.Deployment != ""
		switch {
		case r.adopts && (!named || found.Deployment == sealer.deployment):
			counts.Current++
			continue
		case named && found.Deployment != r.from:
			counts.Foreign++
			continue
		case r.adopts && found.LeaseID != "" && found.LeaseEndsIn > 0:
			counts.Left++
			continue
		}
		// Current rows are opened as well, so that all rows that do not open are named.
		plain, err := sealer.open(found.key(), found.Deployment, found.secrets())
		if err == nil && r.isCurrent(found) {
			counts.Current++
			continue
		}
		if err != nil {
			counts.Unreadable++
			if r.Unreadable != nil {
				r.Unreadable(found.key(), err)
			}
			continue
		}
		sealed, err := sealer.seal(found.key(), plain)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.action, err)
		}
		needy = append(needy, resealed{found, sealed})
	}
	return needy, nil
}

// isCurrent reports whether the row is as the store would write it.
func (r *resealing) isCurrent(found row) bool {
	if found.Deployment != r.store.sealer.deployment {
		return false
	}
	if r.store.sealer.aead == nil {
		return true
	}
	sealed := found.secrets()
	for _, value := range sealed.byColumn() {
		if len(*value) == 0 {
			continue
		}
		_, ciphertext, ok := split(*value)
		if id, named := keyID(ciphertext); !ok || !r.named || !named || id != r.primary {
			return false
		}
	}
	return true
}

// write writes the rows that nobody has locked or written since they were read, in one transaction,
// and returns the ids of the others.
func (r *resealing) write(ctx context.Context, rows []resealed, counts *Resealed) (missed []uint64, err error) {
	if r.DryRun || len(rows) == 0 {
		counts.Written += len(rows)
		return nil, nil
	}
	s := r.store
	names := make([]rowName, len(rows))
	for i, one := range rows {
		names[i] = rowName{one.ID, one.key()}
	}
	lock := s.sql.lockRows.text + byRows(names) + lockFree
	err = s.write(ctx, r.action, func(ctx context.Context) error {
		return s.transaction(ctx, keyedRows, func(conn *sqlx.Conn) error {
			missed = nil
			var locked []uint64
			var id uint64
			err := scan(ctx, conn, lock, nil, []any{&id}, func() { locked = append(locked, id) })
			if err != nil {
				return err
			}
			for _, one := range rows {
				written := int64(0)
				if slices.Contains(locked, one.ID) {
					if written, err = exec(ctx, conn, s.sql.updateReseal, r.args(one)); err != nil {
						return err
					}
				}
				if written == 0 {
					missed = append(missed, one.ID)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	counts.Written += len(rows) - len(missed)
	return missed, nil
}

func (r *resealing) args(one resealed) map[string]any {
	args := rowArgs(one.key(), one.ID)
	args["version"] = one.Version
	args["found"] = hex.EncodeToString(one.Extra[:min(len(one.Extra), len(mark)+writeLength)])
	args["access_token"] = one.sealed.access
	args["refresh_token"] = one.sealed.refresh
	args["extra"] = one.sealed.extra
	args["deployment"] = r.store.sealer.deployment
	return args
}
