package storm_test

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/migrations"
)

// lag is for how long a read of the network "late" may be behind.
const lag = 700 * time.Millisecond

// The network "late" leads to a server that is behind: what is read there, but for the rows that are
// locked, comes from the table credentialz, to which followLate copies the rows now and then.
func init() {
	mysql.RegisterDialContext("late", func(ctx context.Context, addr string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		return lateConn{conn}, err
	})
}

type lateConn struct{ net.Conn }

func (c lateConn) Write(packet []byte) (int, error) {
	const header = 5 // the packet's length and number, and the command
	if len(packet) > header && bytes.HasPrefix(packet[header:], []byte("SELECT")) &&
		!bytes.Contains(packet, []byte("FOR UPDATE")) {
		packet = bytes.Replace(packet, []byte("`credentials`"), []byte("`credentialz`"), 1)
	}
	return c.Conn.Write(packet)
}

// followLate migrates the database of that DSN, and keeps credentialz behind credentials until the
// test ends.
func followLate(t *testing.T, dsn string) {
	t.Helper()
	db := open(t, dsn)
	if _, err := migrations.Up(t.Context(), db, nil); err != nil {
		t.Fatal(err)
	}
	execute := func(ctx context.Context, statement string) {
		t.Helper()
		if _, err := db.ExecContext(ctx, statement); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	execute(t.Context(), "CREATE TABLE credentialz LIKE credentials")
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for ticks := time.Tick(lag); ; {
			select {
			case <-ticks:
				copyRows(ctx, t, db)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-stopped
	})
}

// copyRows copies the rows without locking them.
func copyRows(ctx context.Context, t *testing.T, db *sql.DB) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err == nil {
		_, err = tx.ExecContext(ctx, "REPLACE INTO credentialz SELECT * FROM credentials")
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil && ctx.Err() == nil {
		t.Errorf("copy the rows: %v", err)
	}
}

// TestStormOnServersThatAreBehind: the reads of the workers, or those of the parent, lag behind what
// is written. The storm waits until its own writes are seen, and no caller's latency has that wait
// in it.
func TestStormOnServersThatAreBehind(t *testing.T) {
	for _, test := range []struct{ fault, network string }{
		{"reads late", "@tcp("}, {"reads at once", "@late("},
	} {
		t.Run(test.fault, func(t *testing.T) {
			dsn := database(t)
			followLate(t, dsn)
			cfg := config(strings.Replace(dsn, "@tcp(", test.network, 1), test.fault)
			cfg.Rounds, cfg.Processes, cfg.Threads = 3, 2, 1
			r, err := storm.Run(t.Context(), cfg)
			must(t, err)
			if !r.OK || len(r.Violations) > 0 {
				t.Fatalf("violations: %q", r.Violations)
			}
			if want := r.Accounts * r.Rounds; r.Refreshes.Calls != want {
				t.Errorf("%d exchanges, want %d", r.Refreshes.Calls, want)
			}
			if test.fault == "reads at once" && r.LatencyMS.P50 >= 500 {
				t.Errorf("latencies = %+v, with an endpoint that takes 50 ms", r.LatencyMS)
			}
		})
	}
}

// TestStormSaysThatServersAreBehind: a worker never sees the storm's writes.
func TestStormSaysThatServersAreBehind(t *testing.T) {
	dsn := database(t)
	db := open(t, dsn)
	if _, err := migrations.Up(t.Context(), db, nil); err != nil {
		t.Fatal(err)
	}
	_, err := db.ExecContext(t.Context(), "CREATE TABLE credentialz LIKE credentials")
	must(t, err)
	cfg := config(dsn, "reads late")
	cfg.Processes, cfg.Timeout = 1, 20*time.Second
	if _, err := storm.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "a server that is behind") {
		t.Errorf("Run = %v, want an error that says why", err)
	}
}
