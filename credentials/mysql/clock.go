package mysql

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

const (
	// clockTolerance is by how much the clocks of several primaries may differ unnoticed.
	clockTolerance = 2 * time.Second

	// clockMemory is for how long the store relies on its knowledge of its servers.
	clockMemory = time.Minute
)

// clocks holds a store's knowledge of its servers' clocks. Each of several primaries writes by
// its own clock, and a lease that one of them wrote ends early by the clock of another that is
// ahead.
type clocks struct {
	mu      sync.Mutex
	primary primary   // guarded by mu
	asked   time.Time // guarded by mu; when the server told about primary
	apart   error     // guarded by mu; a disagreement that was seen
	seen    time.Time // guarded by mu; when the disagreement was
}

// primary says whether the server is one of several primaries, and which.
type primary struct {
	oneOfSeveral bool
	host         string
}

// clockLag is by how much the server's clock is behind the one by which the credential was last
// written; zero or less if nothing shows that.
func clockLag(c credentials.Credential) time.Duration {
	return -min(c.Lease.Age, c.Refreshed.Ago, c.Failure.Ago, c.Interrupted.Ago, c.Survived.Ago)
}

// checkClock returns an error if the server is one of several primaries and its clock is behind
// that of another: as this credential shows, which was just read on conn, or as one showed a short
// time ago. A single server with such a row had its clock set back, which is no reason to refuse
// anything.
func (s *Store) checkClock(ctx context.Context, conn *sqlx.Conn, c credentials.Credential) error {
	if clockLag(c) <= clockTolerance {
		return s.clocks.disagreement()
	}
	server, err := s.askPrimary(ctx, conn)
	if err != nil || !server.oneOfSeveral {
		return err
	}
	// A statement that waited for a lock has counted from its start, and another transaction has
	// written since.
	found, err := all(ctx, conn, s.sql.selectByRow, rowArgs(c.Key, c.Row))
	if err != nil {
		return err
	}
	var again credentials.Credential
	if len(found) > 0 {
		again, _ = found[0].credential() // its times, which it has whatever its secrets are
	}
	switch behind := clockLag(again); {
	case behind <= clockTolerance:
		return s.clocks.disagreement()
	default:
		return s.clocks.disagree(fmt.Errorf("%w: the clock of the server %s is %v behind that of "+
			"another primary, which wrote %s: leases are not kept while they disagree; "+
			"synchronize the clocks of all primaries (NTP)",
			credentials.ErrUnavailable, server.host, behind.Round(100*time.Millisecond), c.Key))
	}
}

// disagreement returns the one that was seen a short time ago, nil if there was none.
func (c *clocks) disagreement() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.seen) > clockMemory {
		c.apart = nil
	}
	return c.apart
}

func (c *clocks) disagree(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apart, c.seen = err, time.Now()
	return err
}

// Every account may ask MySQL and its relatives for these values.
const (
	showPrimary = "SHOW VARIABLES WHERE Variable_name IN " +
		"('group_replication_single_primary_mode', 'wsrep_on', 'hostname', 'version')"
	showCluster = "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'"
)

// askPrimary asks the server, or remembers the answer of a short time ago. A server without an
// answer is taken for the only primary.
func (s *Store) askPrimary(ctx context.Context, conn *sqlx.Conn) (primary, error) {
	s.clocks.mu.Lock()
	server, asked := s.clocks.primary, s.clocks.asked
	s.clocks.mu.Unlock()
	if !asked.IsZero() && time.Since(asked) < clockMemory {
		return server, nil
	}
	told := make(map[string]string)
	err := scanSettings(ctx, conn, showPrimary, told)
	if err == nil && on(told["wsrep_on"]) {
		err = scanSettings(ctx, conn, showCluster, told)
	}
	if err != nil && classify(err) != notRetryable {
		return primary{}, err
	}
	size := told["wsrep_cluster_size"]
	server = primary{
		oneOfSeveral: told["group_replication_single_primary_mode"] == "OFF" || on(size) && size != "1" ||
			isTiDB(told["version"]), // of which there are several servers, and each has a clock
		host: told["hostname"],
	}
	s.clocks.mu.Lock()
	defer s.clocks.mu.Unlock()
	s.clocks.primary, s.clocks.asked = server, time.Now()
	return server, nil
}
