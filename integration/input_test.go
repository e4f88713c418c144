package integration_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/migrations"
)

// TestWrongServer: what is wrong with the host's DSN or its server comes out as one clear error, in bounded time and
// without the password.
func TestWrongServer(t *testing.T) {
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // its connections are accepted by the kernel and by nobody else
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })

	onServers(t, func(t *testing.T, s *server) {
		for _, test := range []struct {
			name   string
			change func(c *mysql.Config)
			want   error
			text   string
		}{
			{"a wrong password", func(c *mysql.Config) { c.Passwd = "not-the-password" }, nil, "Access denied"},
			{"an unknown user", func(c *mysql.Config) { c.User, c.Passwd = "nobody", "not-the-password" }, nil, "Access denied"},
			{"no such database", func(c *mysql.Config) { c.DBName = "latchkey_test_none" }, nil, "latchkey_test_none"},
			{"nobody listens", func(c *mysql.Config) { c.Addr = closed.Addr().String() }, credentials.ErrUnavailable, "connection refused"},
			{"nobody answers", func(c *mysql.Config) { c.Addr = silent.Addr().String() }, credentials.ErrUnavailable, "deadline exceeded"},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				config := s.configFor(t, "", interpolated)
				test.change(config)
				db := open(config)
				t.Cleanup(func() { _ = db.Close() })
				store := newStore(t, db)
				for name, call := range map[string]func(context.Context) error{
					"Check": store.Check,
					"Get":   func(ctx context.Context) error { _, err := store.Get(ctx, alice); return err },
					"Claim": func(ctx context.Context) error { _, err := store.Claim(ctx, alice, claimOf("holder")); return err },
					"Up":    func(ctx context.Context) error { _, err := migrations.Up(ctx, db, nil); return err },
				} {
					limit := 5 * time.Second
					if test.name == "nobody answers" {
						limit = 300 * time.Millisecond
					}
					ctx, cancel := context.WithTimeout(bounded(t), limit)
					began := time.Now()
					err := call(ctx)
					cancel()
					if took := time.Since(began); took > 8*time.Second {
						t.Errorf("%s: took %v", name, took)
					}
					switch {
					case err == nil:
						t.Errorf("%s: got no error", name)
					case name != "Up" && test.want != nil && !errors.Is(err, test.want):
						t.Errorf("%s: got error %v, want %v", name, err, test.want)
					case !strings.Contains(err.Error(), test.text):
						t.Errorf("%s: got error %v, want one with %q", name, err, test.text)
					case strings.Contains(err.Error(), "not-the-password"):
						t.Errorf("%s: the error has the password in it: %v", name, err)
					}
				}
				idle(t, db)
			})
		}
	})
}

// TestAutocommitOff: under it nothing that the store writes with one statement would be committed.
func TestAutocommitOff(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		err := newStore(t, s.open(t, database, "autocommit=0")).Check(bounded(t))
		if err == nil || !strings.Contains(err.Error(), "autocommit") {
			t.Errorf("Check: got error %v, want one about autocommit", err)
		}
		if err := newStore(t, s.open(t, database, "autocommit=1")).Check(bounded(t)); err != nil {
			t.Errorf("Check with autocommit on: %v", err)
		}
	})
}

// TestPoolOfOne: a process with a single connection can do everything, also for many callers at once.
func TestPoolOfOne(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, "")
		db.SetMaxOpenConns(1)
		errs := make(chan error)
		const n = 8
		for i := range n {
			go func() {
				key := credentials.Key{Service: alice.Service, Account: string(rune('a' + i))}
				errs <- func() error {
					if err := store.Put(bounded(t), key, credentials.Grant{RefreshToken: credentials.NewSecret("seed")}); err != nil {
						return err
					}
					c, err := store.Claim(bounded(t), key, claimOf("holder"))
					if err != nil {
						return err
					}
					return store.Save(bounded(t), c.Fence(), renewal("new"))
				}()
			}()
		}
		for range n {
			if err := receive(t, "a caller", errs); err != nil {
				t.Error(err)
			}
		}
		everything(t, store)
		idle(t, db)
	})
}
