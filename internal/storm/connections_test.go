package storm_test

import (
	"database/sql/driver"
	"reflect"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// database/sql does without the interfaces that a connection does not implement, and so behaves
// differently.
func TestTrackedConnectionsImplementWhatTheDriversDo(t *testing.T) {
	cfg, err := mysql.ParseDSN(database(t))
	must(t, err)
	connector, err := mysql.NewConnector(cfg)
	must(t, err)
	inner, err := connector.Connect(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = inner.Close() })
	db, _, err := worker.Open(cfg)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.Raw(func(outer any) error {
		for _, i := range []reflect.Type{
			reflect.TypeFor[driver.ConnBeginTx](), reflect.TypeFor[driver.ConnPrepareContext](),
			reflect.TypeFor[driver.ExecerContext](), reflect.TypeFor[driver.NamedValueChecker](),
			reflect.TypeFor[driver.Pinger](), reflect.TypeFor[driver.QueryerContext](),
			reflect.TypeFor[driver.SessionResetter](), reflect.TypeFor[driver.Validator](),
		} {
			got, want := reflect.TypeOf(outer).Implements(i), reflect.TypeOf(inner).Implements(i)
			if got != want {
				t.Errorf("%v is implemented: %v, by the driver's: %v", i, got, want)
			}
		}
		return nil
	}))
}
