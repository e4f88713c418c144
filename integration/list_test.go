package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
)

const beginsServices = "SELECT DISTINCT"

// list returns what is listed.
func list(t testing.TB, store *latchkey.Store, f latchkey.Filter) (listed []credentials.Status) {
	t.Helper()
	for c, err := range store.List(bounded(t), f) {
		if err != nil {
			t.Fatalf("List(%+v): %v", f, err)
		}
		listed = append(listed, c)
	}
	return listed
}

// everyRow returns all credentials with their tokens.
func everyRow(t testing.TB, store *latchkey.Store) (rows []credentials.Credential) {
	t.Helper()
	var keys []credentials.Key
	for _, c := range list(t, store, latchkey.Filter{}) {
		keys = append(keys, c.Key)
	}
	all, err := store.GetAll(bounded(t), keys)
	must(t, err)
	for _, found := range all {
		must(t, found.Err)
		rows = append(rows, found.Credential)
	}
	return rows
}

func TestList(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		const n = 1700 // three pages, of which two are of github
		insertRows(t, db, n, func(i int) newRow {
			return newRow{service: service(i), account: fmt.Sprintf("account %04d", n-i)}
		})

		for _, test := range []struct {
			filter   string
			services []string
		}{
			{"", []string{"github", "xero"}},
			{" GitHub ", []string{"github"}},
			{"nobody", nil},
		} {
			var want, got []string
			for _, listed := range test.services {
				for i := range n {
					if service(i) == listed {
						want = append(want, fmt.Sprintf("%s/account %04d", listed, n-i))
					}
				}
			}
			for _, c := range list(t, store, latchkey.Filter{Service: test.filter}) {
				got = append(got, c.Key.String())
			}
			equal(t, fmt.Sprintf("List of service %q", test.filter), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}

		for range store.List(bounded(t), latchkey.Filter{}) {
			idle(t, db) // the connection is given back before the caller has a credential
			break
		}
		idle(t, db)

		ctx, cancel := context.WithCancel(bounded(t))
		cancel()
		for _, test := range []struct {
			name   string
			ctx    context.Context
			filter latchkey.Filter
		}{
			{"under a context that has ended", ctx, latchkey.Filter{}},
			{"of one service under a context that has ended", ctx, latchkey.Filter{Service: "github"}},
			{"of a name that cannot be a service", bounded(t), latchkey.Filter{Service: "not a service"}},
			{"of a condition that there is not", bounded(t), latchkey.Filter{Conditions: []credentials.Condition{"well"}}},
		} {
			count := 0
			for _, err := range store.List(test.ctx, test.filter) {
				count++
				if err == nil {
					t.Errorf("List %s: got no error", test.name)
				}
			}
			equal(t, "yields of List "+test.name, count, 1)
		}
	})
}

func service(i int) string {
	if i%3 == 0 {
		return "xero"
	}
	return "github"
}

// TestListByCondition has rows in every condition that calls and time bring about, and holds each
// list against the credentials one by one.
func TestListByCondition(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		want := everyCondition(t, store, db)
		for key, condition := range want {
			equal(t, "the condition of "+key.String(), get(t, store, key).Status().Condition, condition)
		}
		var filters [][]credentials.Condition
		filters = append(filters, nil)
		for i, one := range allConditions {
			filters = append(filters, []credentials.Condition{one})
			for _, other := range allConditions[i+1:] {
				filters = append(filters, []credentials.Condition{one, other})
			}
		}
		filters = append(filters, allConditions)
		for _, conditions := range filters {
			for _, service := range []string{"", "github", "xero"} {
				filter := latchkey.Filter{Service: service, Conditions: conditions}
				var expected, got []string
				for key, condition := range want {
					if (service == "" || key.Service == service) &&
						(conditions == nil || slices.Contains(conditions, condition)) {
						expected = append(expected, key.String()+" "+string(condition))
					}
				}
				for _, c := range list(t, store, filter) {
					got = append(got, c.Key.String()+" "+string(c.Condition))
				}
				slices.Sort(expected)
				slices.Sort(got)
				equal(t, fmt.Sprintf("List(%+v)", filter), strings.Join(got, "\n"), strings.Join(expected, "\n"))
			}
		}
		for _, c := range list(t, store, latchkey.Filter{}) {
			w := get(t, store, c.Key).Status()
			if w.ExpiresIn.Round(time.Minute) != c.ExpiresIn.Round(time.Minute) ||
				c.Failure.Class != w.Failure.Class || c.Lease.ID != w.Lease.ID || c.Version != w.Version {
				t.Errorf("got the status %+v, want %+v", c, w)
			}
		}
	})
}

var allConditions = []credentials.Condition{
	credentials.ConditionDisabled,
	credentials.ConditionRefreshing, credentials.ConditionDead, credentials.ConditionFresh,
	credentials.ConditionInterrupted, credentials.ConditionBackingOff, credentials.ConditionNoToken,
	credentials.ConditionExpired, credentials.ConditionDue,
}

// everyCondition makes rows, and returns how each stands.
func everyCondition(t *testing.T, store *latchkey.Store, db *sql.DB) map[credentials.Key]credentials.Condition {
	t.Helper()
	want := make(map[credentials.Key]credentials.Condition)
	row := func(condition credentials.Condition, key credentials.Key) credentials.Key {
		want[key] = condition
		return key
	}
	good := func(condition credentials.Condition, name string) credentials.Key {
		key := row(condition, keyOf(name))
		put(t, store, key, credentials.Grant{
			AccessToken: credentials.NewSecret("access"), RefreshToken: credentials.NewSecret("refresh"), Lifetime: 8 * time.Hour,
		})
		return key
	}
	empty := func(condition credentials.Condition, name string) credentials.Key {
		key := row(condition, keyOf(name))
		seed(t, store, key)
		return key
	}
	set := func(key credentials.Key, assignments string) {
		execute(t, db, "UPDATE credentials SET "+assignments+" WHERE account_name = '"+key.Account+"'")
	}
	due := func(key credentials.Key) credentials.Key {
		set(key, "due_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE")
		return key
	}
	expire := func(key credentials.Key) credentials.Key {
		set(due(key), "expiration = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
		return key
	}
	fail := func(key credentials.Key, class credentials.Class) {
		t.Helper()
		must(t, store.Fail(bounded(t), claim(t, store, key).Fence(), credentials.Failure{Class: class, RetryIn: time.Hour}))
	}
	lapse := func(key credentials.Key) credentials.Credential {
		c := claim(t, store, key)
		set(key, "lease_end = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, due_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
		return c
	}

	revived := row(credentials.ConditionNoToken, credentials.Key{Service: "xero", Account: "revived"})
	seed(t, store, revived)
	fail(revived, credentials.ClassDead)
	n, err := store.Revive(bounded(t), credentials.Revival{Service: "xero", Since: time.Hour, Rate: 1e-6})
	must(t, err)
	equal(t, "revived", n, 1)
	if c := get(t, store, revived); c.DueIn <= 0 {
		t.Fatalf("the revived grant is due in %v", c.DueIn)
	}
	another := row(credentials.ConditionDead, credentials.Key{Service: "xero", Account: "dead"})
	seed(t, store, another)
	fail(another, credentials.ClassDead)

	good(credentials.ConditionFresh, "fresh")
	put(t, store, row(credentials.ConditionFresh, keyOf("never due")), credentials.Grant{AccessToken: credentials.NewSecret("access")})
	fail(due(good(credentials.ConditionFresh, "fresh after a failure")), credentials.ClassTransient)
	due(good(credentials.ConditionDue, "due"))
	expire(good(credentials.ConditionExpired, "expired"))
	set(expire(good(credentials.ConditionExpired, "expired before it is due")), "due_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
	empty(credentials.ConditionNoToken, "no token")
	claim(t, store, empty(credentials.ConditionRefreshing, "refreshing without token"))
	claim(t, store, due(good(credentials.ConditionRefreshing, "refreshing ahead of expiry")))
	lapse(empty(credentials.ConditionInterrupted, "interrupted without token"))
	lapse(due(good(credentials.ConditionInterrupted, "interrupted ahead of expiry")))
	fail(empty(credentials.ConditionBackingOff, "backing off without token"), credentials.ClassTransient)
	fail(expire(good(credentials.ConditionBackingOff, "backing off")), credentials.ClassUnknown)
	fail(empty(credentials.ConditionDead, "dead without token"), credentials.ClassDead)
	fail(due(good(credentials.ConditionDead, "dead though good")), credentials.ClassDead)

	for _, key := range []credentials.Key{
		good(credentials.ConditionDisabled, "disabled"), empty(credentials.ConditionDisabled, "disabled without token"),
		expire(good(credentials.ConditionDisabled, "disabled, and expired")),
	} {
		must(t, store.Disable(bounded(t), credentials.Change{Key: key, By: "ann@host"}))
	}
	under := empty(credentials.ConditionDisabled, "disabled during an exchange")
	claim(t, store, under)
	must(t, store.Disable(bounded(t), credentials.Change{Key: under, By: "ann@host"}))

	for key, condition := range map[string]credentials.Condition{
		"late under a lease": credentials.ConditionRefreshing, "late under a lease that has ended": credentials.ConditionFresh,
	} {
		late := empty(condition, key)
		first := lapse(late)
		second := claimOf("second")
		second.TakeOver = first.Lease.ID
		_, err := store.Claim(bounded(t), late, second)
		must(t, err)
		must(t, store.Save(bounded(t), first.Fence(), renewal("late")))
		equal(t, "the lease after a late save", get(t, store, late).Lease.ID, second.ID)
		if condition == credentials.ConditionFresh {
			set(late, "lease_end = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
		}
	}
	return want
}

// TestListReadsFewRows: the dead, the due, the interrupted and the disabled of many rows are found
// without the others, and no list has the server send a token.
func TestListReadsFewRows(t *testing.T) {
	const rows, few = 5000, 10
	onServers(t, func(t *testing.T, s *server) {
		database := s.migrated(t)
		db := s.open(t, database, "")
		insertMass(t, db, alice.Service, 1, rows, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", time.Hour)
		insertMass(t, db, "another", rows+1, rows, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR", time.Hour)
		markDead(t, db, rows, fmt.Sprint("id % ", rows/few, " <> 0"))
		for remainder, assignments := range map[int]string{
			1: "due_at = UTC_TIMESTAMP(6)",
			2: "due_at = UTC_TIMESTAMP(6), lease_id = 'claim', lease_version = version",
			3: "due_at = NULL, disabled_by = 'ann@host', disabled_at = UTC_TIMESTAMP(6)",
		} {
			execute(t, db, fmt.Sprintf("UPDATE credentials SET %s WHERE id %% %d = %d",
				assignments, rows/few, remainder))
		}
		execute(t, db, "ANALYZE TABLE credentials")
		w := &wire{}
		one := s.openWire(t, database, "", w)
		one.SetMaxOpenConns(1)
		store := newStore(t, one)
		for _, condition := range []credentials.Condition{
			credentials.ConditionDead, credentials.ConditionDue, credentials.ConditionInterrupted,
			credentials.ConditionDisabled,
		} {
			for _, service := range []string{"", alice.Service} {
				before := rowsRead(t, one)
				n := len(list(t, store, latchkey.Filter{Service: service, Conditions: []credentials.Condition{condition}}))
				if read := rowsRead(t, one) - before; read > 300 {
					t.Errorf("%d rows were read for %d that are %s, of service %q", read, n, condition, service)
				}
				if n < few || n > 2*few {
					t.Errorf("%d are %s, of service %q, want some %d", n, condition, service, few)
				}
			}
		}
		list(t, store, latchkey.Filter{})
		for _, text := range w.statements() {
			if strings.Contains(text, "`credentials`") && (strings.Contains(text, "`access_token`,") ||
				strings.Contains(text, "`refresh_token`") || strings.Contains(text, "`extra`")) {
				t.Errorf("a token is read: %s", text)
			}
		}
	})
}

// TestListPlans: the services and the ids are read from the index alone, and the rows by their ids.
func TestListPlans(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		w := &wire{}
		database := s.migrated(t)
		seedMany(t, s.open(t, database, interpolated), 5000, 7)
		store := newStore(t, s.openWire(t, database, "", w))
		list(t, store, latchkey.Filter{})
		list(t, store, latchkey.Filter{Conditions: []credentials.Condition{credentials.ConditionDue}})
		list(t, store, latchkey.Filter{Conditions: []credentials.Condition{credentials.ConditionDead, credentials.ConditionDue}})
		explained := make(map[string]int)
		for _, text := range w.statements() {
			want := map[string]string{"key": "due"}
			kind := "ids"
			switch {
			case strings.HasPrefix(text, beginsServices):
				kind = "services"
				want = map[string]string{"Extra": "Using index for group-by"}
			case strings.Contains(text, "FORCE INDEX (PRIMARY)"):
				kind = "rows"
				want = map[string]string{"key": "PRIMARY", "type": "range"}
			case !strings.Contains(text, "FORCE INDEX (due)"):
				continue
			case strings.Contains(text, "IS NULL"):
				want["type"] = "range"
			case strings.Contains(text, "due_at"):
				kind = "ids that are due"
				want["type"], want["Extra"] = "range", "Using index"
			default:
				want["Extra"] = "Using index"
			}
			explained[kind]++
			plan := explain(t, s, database, text)
			for column, value := range want {
				if !strings.Contains(plan.text(column), value) || strings.Contains(plan.text("Extra"), "filesort") {
					t.Errorf("got the plan %v, want %s %s and no sorting: %s", plan, column, value, text)
				}
			}
		}
		if explained["services"] != 3 || explained["ids"] < 14 || explained["ids that are due"] != 7 || explained["rows"] < 14 {
			t.Errorf("explained %v", explained)
		}
	})
}
