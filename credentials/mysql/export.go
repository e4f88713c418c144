package mysql

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// Exported is a credential outside of its table, with times of the server's clock, in UTC.
type Exported struct {
	Key        credentials.Key
	Deployment string

	// Sealed says that the values are as the table has them: they open for this Key and Deployment
	// alone. Otherwise they are plain.
	Sealed bool

	// AccessToken, RefreshToken and Extra are the values of these columns. Plain, Extra is a JSON
	// object of strings.
	AccessToken, RefreshToken, Extra credentials.Secret

	// Expires and RefreshExpires are when the tokens end; zero: never, or nobody knows.
	Expires, RefreshExpires time.Time

	// Interrupted names an exchange of unknown outcome, one that was under way included; Disabled
	// the operator who disabled the credential; Dead the holder who learned that the grant is dead.
	Interrupted, Disabled, Dead Event

	// DeadCode and DeadReason are those of the failure of a dead grant.
	DeadCode, DeadReason string
}

// Event says who did something, and when. The zero value: nobody.
type Event struct {
	By string
	At time.Time
}

// exportPage is how many rows one statement of Export reads.
const exportPage = 100

// Export yields the credentials of a service, or of all for "", in the order in which they were
// made: sealed, or plain with reveal. Export holds no lock and no snapshot: each credential is as
// it is when it is read. A newer refresh token makes the exported one useless, so an export is
// worth no more than a backup of the same age.
//
// A credential that cannot be exported is yielded as an error with its Key, and the others follow:
// without reveal, one that is not sealed; with it, one that does not open. An error without a Key
// ends the export.
func (s *Store) Export(ctx context.Context, service string, reveal bool) iter.Seq2[Exported, error] {
	return func(yield func(Exported, error) bool) {
		services, err := s.servicesOf(ctx, Filter{Service: service})
		if err != nil {
			yield(Exported{}, err)
			return
		}
		for _, service := range services {
			if !s.exportService(ctx, service, reveal, yield) {
				return
			}
		}
	}
}

// exportService reports whether the export goes on.
func (s *Store) exportService(
	ctx context.Context, service string, reveal bool, yield func(Exported, error) bool,
) bool {
	ids, err := s.ids(ctx, s.sql.selectIDs, service)
	if err != nil {
		yield(Exported{}, err)
		return false
	}
	for some := range slices.Chunk(ids, exportPage) {
		page, err := s.rows(ctx, "export "+service, some)
		if err != nil {
			yield(Exported{}, err)
			return false
		}
		for _, r := range page {
			if !yield(s.exported(r, reveal)) {
				return false
			}
		}
	}
	return true
}

// rows reads the rows that are still there, in the order of the ids.
func (s *Store) rows(ctx context.Context, action string, ids []uint64) (page []row, err error) {
	query, values, err := sqlx.In(s.sql.selectRows.text, ids)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, action, func(ctx context.Context, conn *sqlx.Conn) error {
		page = page[:0]
		return each(ctx, conn, query, values, func(r row) { page = append(page, r) })
	})
	return page, err
}

// exported returns the row as it leaves the table. After an error it has the row's key alone.
func (s *Store) exported(r row, reveal bool) (Exported, error) {
	values := r.secrets()
	if reveal {
		if err := s.owns(r); err != nil {
			return Exported{Key: r.key()}, err
		}
		var err error
		if values, err = s.sealer.open(r.key(), r.Deployment, values); err != nil {
			return Exported{Key: r.key()}, err
		}
	} else if !values.sealed() {
		return Exported{Key: r.key()}, fmt.Errorf("%s is not sealed in the table, and a plain export "+
			"has to be asked for", r.key())
	}
	e := Exported{
		Key: r.key(), Deployment: r.Deployment, Sealed: !reveal,
		AccessToken:  credentials.NewSecret(string(values.access)),
		RefreshToken: credentials.NewSecret(string(values.refresh)),
		Extra:        credentials.NewSecret(string(values.extra)),
		Interrupted:  r.event(r.InterruptedBy, r.InterruptedAgo.Int64),
		Disabled:     r.event(r.DisabledBy, r.DisabledAgo.Int64),
	}
	if r.ExpiresIn.Valid && len(values.access) > 0 {
		e.Expires = r.at(r.ExpiresIn.Int64)
	}
	if r.RefreshExpiresIn.Valid {
		e.RefreshExpires = r.at(r.RefreshExpiresIn.Int64)
	}
	if r.LeaseID != "" && r.Version <= r.LeaseVersion { // as a claim in its place would
		e.Interrupted = r.event(r.LeaseHolder, r.LeaseAge)
	}
	if r.FailureClass == string(credentials.ClassDead) {
		e.Dead = r.event(r.FailedBy, r.FailedAgo.Int64)
		e.DeadCode, e.DeadReason = r.FailureCode, r.FailureReason
	}
	return e, nil
}

// at is the moment so many microseconds after the row was read, by the server's clock.
func (r row) at(micros int64) time.Time { return time.UnixMicro(r.ReadAt + micros).UTC() }

// event is that of somebody so many microseconds ago; the zero Event for nobody.
func (r row) event(by string, ago int64) Event {
	if by == "" {
		return Event{}
	}
	return Event{By: by, At: r.at(-ago)}
}
