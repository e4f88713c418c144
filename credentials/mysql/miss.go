package mysql

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// miss explains to one call why its UPDATE found no row to write. The server that was reached may
// be behind: one of several primaries, or a replica that was promoted a moment ago. Such a server
// has not applied the claim, or not even the row, and the answer "superseded" would throw the
// result of the exchange away. So the call is tried again, where the pool has it on another
// connection.
type miss struct {
	fence    credentials.Fence
	deadline time.Time // the call's
	believed time.Time // when an absent row is taken for deleted; zero: the row was not absent so far
}

func newMiss(ctx context.Context, fence credentials.Fence) *miss {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(maxCall)
	}
	return &miss{fence: fence, deadline: deadline}
}

// maxAbsence bounds the time for which a row has to be absent before it is taken for deleted, as
// does half of the time that the call has left. The other half is for the answer.
const maxAbsence = 5 * time.Second

// explain reads the row on the connection on which the UPDATE missed, and returns it if something
// later is in it. A version below the fence's, or the claim's own lease, shows that the server had
// not applied the claim when the UPDATE ran.
func (m *miss) explain(ctx context.Context, s *Store, conn *sqlx.Conn) (row, error) {
	found, err := all(ctx, conn, s.sql.selectByRow, rowArgs(m.fence.Key, m.fence.Row))
	switch {
	case err != nil:
		return row{}, err
	case len(found) == 0:
		return row{}, m.absent()
	}
	m.believed = time.Time{}
	if found[0].Version < m.fence.Version || found[0].LeaseID == m.fence.Claim {
		return row{}, errBehind
	}
	return found[0], nil
}

// absent returns errDeleted if the row has been absent for long enough.
func (m *miss) absent() error {
	now := time.Now()
	if m.believed.IsZero() {
		m.believed = now.Add(min(m.deadline.Sub(now)/2, maxAbsence))
	}
	if now.Before(m.believed) {
		return errBehind
	}
	return errDeleted
}
