package integration_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/migrations"
)

// duties are the work of each account in the table of docs/operations.md. The errors of a duty are
// those of an account that lacks a privilege.
var duties = map[string]func(t *testing.T, store *latchkey.Store) error{
	"service": func(t *testing.T, store *latchkey.Store) error {
		return errors.Join(store.Check(bounded(t)), serving(t, store, credentials.Service{}, alice))
	},
	"service that makes rows": func(t *testing.T, store *latchkey.Store) error {
		return errors.Join(store.Check(bounded(t), latchkey.Insert),
			serving(t, store, credentials.Service{ClientCredentials: true}, keyOf("made")))
	},
	"operator": func(t *testing.T, store *latchkey.Store) error {
		ctx := bounded(t)
		var listed error
		for _, listed = range store.List(ctx, latchkey.Filter{}) {
		}
		_, revived := store.Revive(ctx, credentials.Revival{Service: alice.Service, Since: time.Hour})
		return errors.Join(store.Check(ctx, latchkey.Insert, latchkey.Delete), listed, revived,
			store.Put(ctx, keyOf("new"), refreshToken("new")), store.Delete(ctx, keyOf("new")))
	},
}

// serving gets a token through a manager, and runs a keeper once.
func serving(t *testing.T, store *latchkey.Store, service credentials.Service, key credentials.Key) error {
	service.Refresher = credentials.RefresherFunc(
		func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
			return renewal("given").Grant, nil
		})
	m, err := credentials.NewManager(store, credentials.Services{key.Service: service},
		&credentials.Options{Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer func() { _ = m.Close(bounded(t)) }() // the errors of a duty are the calls'
	keeper, err := credentials.NewKeeper(m, nil)
	must(t, err)
	_, asked := m.Token(bounded(t), key)
	return errors.Join(asked, errOf(keeper.RunOnce(bounded(t))))
}

// accountsOf reads the table of accounts in docs/operations.md.
func accountsOf(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	accounts := make(map[string][]string)
	for _, line := range regexp.MustCompile("(?m)^\\| ([a-z ]+) \\| `([A-Z, ]+)` \\| `app").FindAllStringSubmatch(string(page), -1) {
		accounts[line[1]] = strings.Split(line[2], ", ")
	}
	return accounts
}

// TestPrivileges gives each account of docs/operations.md exactly its privileges. With these it
// does its work; without any one of them it does not.
func TestPrivileges(t *testing.T) {
	accounts := accountsOf(t)
	equal(t, "accounts in docs/operations.md", len(accounts), len(duties)+1)
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		owner := newStore(t, s.open(t, database, ""))
		for name, duty := range duties {
			privileges := accounts[name]
			for i := range len(privileges) + 1 { // the last turn has all of them
				granted, lacking := without(privileges, i)
				seed(t, owner, alice)
				_ = owner.Delete(bounded(t), keyOf("made")) // by the turn before, if it could
				user := s.account(t, granted+" ON `"+database+"`.credentials")
				err := duty(t, newStore(t, s.openAs(t, database, user, "pw")))
				if (err == nil) != (lacking == "") {
					t.Errorf("%s with %s, without %q: got error %v", name, granted, lacking, err)
				}
			}
		}
		migrator := accounts["migrator"]
		for i := range len(migrator) + 1 {
			granted, lacking := without(migrator, i)
			database := s.database(t)
			db := s.openAs(t, database, s.account(t, granted+" ON `"+database+"`.*"), "pw")
			_, up := migrations.Up(bounded(t), db, nil)
			err := errors.Join(up, errOf(migrations.Down(bounded(t), db, nil)))
			if (err == nil) != (lacking == "") {
				t.Errorf("migrator with %s, without %q: got error %v", granted, lacking, err)
			}
		}
	})
}

// without returns the privileges but for that one, as GRANT takes them, and the one.
func without(privileges []string, i int) (granted, lacking string) {
	if i == len(privileges) {
		return strings.Join(privileges, ", "), ""
	}
	rest := slices.Delete(slices.Clone(privileges), i, i+1)
	return strings.Join(rest, ", "), privileges[i]
}

// account makes an account of the password pw.
func (s *server) account(t *testing.T, privileges string) (user string) {
	t.Helper()
	user = "duty_" + strings.ToLower(rand.Text()[:10])
	s.createUser(t, user, "pw", privileges)
	t.Cleanup(func() { execute(t, s.admin, "DROP USER '"+user+"'@'%'") })
	return user
}
