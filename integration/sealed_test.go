package integration_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// production are the options of the stores that the tests of this file write with.
var production = latchkey.Options{AEAD: testkit.NewKeyring(1), Deployment: "production"}

// sealedStore returns a store that seals under the primary key, and opens under the others, too.
func sealedStore(t testing.TB, db *sql.DB, primary uint32, others ...uint32) *latchkey.Store {
	t.Helper()
	return storeWith(t, db, latchkey.Options{AEAD: testkit.NewKeyring(primary, others...)})
}

// tampering is a way to change the row of one account, alice, behind the store's back. The SQL
// follows SET; ?1, ?2 and ?3 stand for the values of alice's three columns before the last
// put.
type tampering struct {
	name string
	set  string
	read latchkey.Options // what the row is read with; zero: production
	want error
	says string // in the error
}

var tamperings = []tampering{
	{name: "another key", read: latchkey.Options{AEAD: testkit.NewKeyring(9), Deployment: "production"},
		says: "is sealed under key 1: no key of this process opens it"},
	{name: "no key", read: latchkey.Options{Deployment: "production"}, says: "set Options.AEAD"},
	{name: "the last byte is cut off", set: "access_token = LEFT(access_token, LENGTH(access_token) - 1)",
		says: "column access_token"},
	{name: "the ciphertext is cut off", set: "refresh_token = LEFT(refresh_token, 20)", says: "column refresh_token"},
	{name: "cut off within the head", set: "refresh_token = LEFT(refresh_token, 10)", says: "was cut off"},
	{name: "the refresh token is emptied", set: "refresh_token = ''", says: "column access_token"},
	{name: "the entries are emptied", set: "extra = ''", says: "one column is sealed and another is not"},
	{name: "a column in another's place", set: "refresh_token = access_token", says: "column refresh_token"},
	{name: "a token from before", set: "access_token = ?1", says: "different writes"},
	{name: "both tokens from before", set: "access_token = ?1, refresh_token = ?2", says: "different writes"},
	{name: "another row's values", set: "access_token = (SELECT access_token FROM copy), " +
		"refresh_token = (SELECT refresh_token FROM copy), extra = (SELECT extra FROM copy)", says: "another row"},
	{name: "a plain token in a sealed one's place", set: "access_token = 'plain'", says: "is sealed and another is not"},
	{name: "plain entries in sealed ones' place", set: "extra = '{}'", says: "is sealed and another is not"},
	{name: "a plain row in a sealed one's place", set: "access_token = 'plain', refresh_token = '', extra = '{}'",
		read: latchkey.Options{AEAD: production.AEAD, Deployment: "production", RequireSealed: true}, says: "RequireSealed"},
	{name: "a later format", set: "extra = CONCAT(LEFT(extra, 3), CHAR(9), SUBSTRING(extra, 5))", says: "later version"},
	{name: "the deployment's name taken away", set: "deployment = ''", says: "another row, column or deployment"},
	{name: "another deployment's name", set: "deployment = 'staging'", want: credentials.ErrOtherDeployment,
		says: `"staging"`},
}

// TestInvariant16Tampering: a row that was changed by hand, or that no key of the process opens,
// gives a clear error and no token. The row beside it is claimed all the same, people still see it,
// and a new grant mends it.
func TestInvariant16Tampering(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		for i, test := range tamperings {
			t.Run(test.name, func(t *testing.T) { test.try(t, db, fmt.Sprint("service-", i)) })
		}
	})
}

func (test tampering) try(t *testing.T, db *sql.DB, service string) {
	key, neighbour := credentials.Key{Service: service, Account: "alice"}, credentials.Key{Service: service, Account: "bob"}
	owner := storeWith(t, db, production)
	put(t, owner, key, renewal("earlier").Grant)
	before := rowsOf(t, db, "SELECT access_token, refresh_token, extra FROM credentials WHERE service_name = ?", service)[0]
	put(t, owner, key, renewal("later").Grant)
	put(t, owner, neighbour, renewal("bob's").Grant)
	execute(t, db, "DROP TABLE IF EXISTS copy")
	execute(t, db, "CREATE TABLE copy SELECT * FROM credentials WHERE service_name = ? AND account_name = 'bob'", service)
	set, values := test.set, []any{}
	for i, column := range []string{"access_token", "refresh_token", "extra"} {
		if mark := fmt.Sprint("?", i+1); strings.Contains(set, mark) {
			set, values = strings.Replace(set, mark, "?", 1), append(values, []byte(before.text(column)))
		}
	}
	if set != "" {
		execute(t, db, "UPDATE credentials SET "+set+" WHERE account_name = 'alice' AND service_name = ?",
			append(values, service)...)
	}
	execute(t, db, "UPDATE credentials SET due_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE service_name = ?", service)

	reader, want := production, credentials.ErrSealed
	if test.read != (latchkey.Options{}) {
		reader = test.read
	}
	if test.want != nil {
		want = test.want
	}
	var log bytes.Buffer
	reader.Logger = slog.New(slog.NewTextHandler(&log, nil))
	test.refused(t, storeWith(t, db, reader), key, want, neighbour)
	if line := log.String(); want == credentials.ErrSealed && !strings.Contains(line, service+"/alice") {
		t.Errorf("the log does not name the row that was passed over: %s", line)
	}
	if want == credentials.ErrSealed {
		execute(t, db, "UPDATE credentials SET deployment = 'production' WHERE service_name = ?", service)
		put(t, owner, key, renewal("new").Grant)
		equal(t, "the token that was put anew", get(t, owner, key).AccessToken.Reveal(), "new")
	}
}

// refused makes every call that reads the row.
func (test tampering) refused(
	t *testing.T, store *latchkey.Store, key credentials.Key, want error, neighbour credentials.Key,
) {
	t.Helper()
	ctx := bounded(t)
	keys := []credentials.Key{key}
	found, err := store.GetAll(ctx, keys)
	must(t, err)
	claimed, err := store.ClaimAll(ctx, keys, claimOf("holder"))
	must(t, err)
	for call, err := range map[string]error{
		"Get":      errOf(store.Get(ctx, key)),
		"GetAll":   found[0].Err,
		"Claim":    errOf(store.Claim(ctx, key, claimOf("holder"))),
		"ClaimAll": claimed[0].Err,
	} {
		failsAs(t, call, err, want)
		failsWith(t, call, err, test.says)
		failsWith(t, call, err, key.String())
	}
	batch := batchOf("holder", 5)
	batch.Service = key.Service
	due, err := store.ClaimDue(ctx, batch)
	statuses := make(map[string]credentials.Status)
	for status, err := range store.List(ctx, latchkey.Filter{Service: key.Service}) {
		must(t, err)
		statuses[status.Key.Account] = status
	}
	if want == credentials.ErrOtherDeployment {
		failsAs(t, "ClaimDue", err, want)
		equal(t, "the row is due as before", statuses["alice"].Condition, credentials.ConditionDue)
		return
	}
	must(t, err)
	var claimable []credentials.Key
	if _, err := store.Get(ctx, neighbour); err == nil {
		claimable = append(claimable, neighbour)
	}
	var got []credentials.Key
	for _, c := range due {
		got = append(got, c.Key)
	}
	if !slices.Equal(got, claimable) {
		t.Errorf("claimed: got %v, want %v", got, claimable)
	}
	if dueIn := statuses["alice"].DueIn; dueIn < batch.Lease/2 {
		t.Errorf("the row is due in %v, want it to be left alone for the length of a lease", dueIn)
	}
}

// TestSealedAtTheNextWrite: rows from before sealing open, and every write seals all of a row.
func TestSealedAtTheNextWrite(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		var log bytes.Buffer
		plain := storeWith(t, db, latchkey.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		bob := keyOf("bob")
		for _, key := range []credentials.Key{alice, bob} {
			put(t, plain, key, refreshToken("marked-seed"))
		}
		equal(t, "times that the log says the store is unsealed", strings.Count(log.String(), "unsealed"), 1)
		strict := production
		strict.RequireSealed = true
		required := storeWith(t, db, strict)
		failsAs(t, "Get of a plain row that must be sealed", errOf(required.Get(bounded(t), alice)), credentials.ErrSealed)

		var named []string
		got, err := required.Reseal(bounded(t), latchkey.ResealOptions{Unreadable: func(key credentials.Key, err error) {
			failsAs(t, "a plain row for Reseal", err, credentials.ErrSealed)
			named = append(named, key.Account)
		}})
		must(t, err)
		equal(t, "Reseal makes no sealed row of a plain one that is refused", got,
			latchkey.Resealed{Last: got.Last, Rows: 2, Unreadable: 2})
		equal(t, "rows that are named", strings.Join(named, " "), "alice bob")

		sealed := storeWith(t, db, production)
		must(t, sealed.Check(bounded(t)))
		c := claim(t, sealed, alice)
		equal(t, "the refresh token", c.RefreshToken.Reveal(), "marked-seed")
		must(t, sealed.Save(bounded(t), c.Fence(), renewal("marked-saved")))
		put(t, sealed, bob, renewal("marked-put").Grant)
		must(t, sealed.Ensure(bounded(t), keyOf("carol"), renewal("marked-ensured").Grant))
		for _, key := range []credentials.Key{alice, bob, keyOf("carol")} {
			must(t, errOf(required.Get(bounded(t), key)))
		}
		for _, r := range rowsOf(t, db, "SELECT * FROM credentials") {
			if strings.Contains(r.String(), "marked") {
				t.Errorf("a token stands in the table as it is: %v", r)
			}
			equal(t, "deployment", r.text("deployment"), "production")
		}
	})
}

// TestSaveBehindARowThatDoesNotOpen: a holder comes back late, and a later result is stored that
// its process cannot open, or that belongs to another deployment by now. The save is superseded; to
// try it again would help nobody, and keep Close waiting.
func TestSaveBehindARowThatDoesNotOpen(t *testing.T) {
	for name, other := range map[string]latchkey.Options{
		"another key":        {AEAD: testkit.NewKeyring(2, 1), Deployment: "production"},
		"another deployment": {AEAD: production.AEAD, Deployment: "staging"},
	} {
		t.Run(name, func(t *testing.T) {
			onServers(t, func(t *testing.T, s *server) {
				db := s.open(t, s.migrated(t), "")
				late, store := storeWith(t, db, production), storeWith(t, db, other)
				seed(t, late, alice)
				held := claim(t, late, alice)
				execute(t, db, "UPDATE credentials SET lease_end = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
				if other.Deployment != production.Deployment {
					must(t, errOf(store.Adopt(bounded(t), production.Deployment, latchkey.ResealOptions{})))
				}
				after := claimOf("another")
				after.TakeOver = held.Lease.ID
				c, err := store.Claim(bounded(t), alice, after)
				must(t, err)
				must(t, store.Save(bounded(t), c.Fence(), renewal("later")))
				failsAs(t, "Save", late.Save(bounded(t), held.Fence(), renewal("late")), credentials.ErrSuperseded)
				equal(t, "the token", get(t, store, alice).AccessToken.Reveal(), "later")
			})
		})
	}
}

// TestDueBehindRowsThatDoNotOpen: rows that do not open have been due for longest, and are several
// times as many as a batch has. The batch has the others all the same.
func TestDueBehindRowsThatDoNotOpen(t *testing.T) {
	const limit = 4
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		foreign, store := sealedStore(t, db, 2), sealedStore(t, db, 1)
		seedAccounts(t, foreign, 5*limit)
		execute(t, db, "UPDATE credentials SET due_at = due_at - INTERVAL 1 HOUR")
		for i := range limit {
			seed(t, store, keyOf(fmt.Sprint("readable ", i)))
		}
		due, err := store.ClaimDue(bounded(t), batchOf("holder", limit))
		must(t, err)
		equal(t, "claimed", len(due), limit)
		equal(t, "rows that are due again at once", query[int](t, db,
			"SELECT COUNT(*) FROM credentials WHERE due_at <= UTC_TIMESTAMP(6)"), 0)
	})
}

// TestForeignAEAD (invariant 14): an AEAD that panics or fails gives an error without its text.
func TestForeignAEAD(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		put(t, storeWith(t, db, production), alice, longGrant.Grant)
		for name, aead := range map[string]latchkey.AEAD{"panics": foreignAEAD{panics: true}, "fails": foreignAEAD{}} {
			store := storeWith(t, db, latchkey.Options{AEAD: aead, Deployment: "production"})
			for call, err := range map[string]error{
				"Get":    errOf(store.Get(bounded(t), alice)),
				"Put":    store.Put(bounded(t), alice, longGrant.Grant),
				"Check":  store.Check(bounded(t)),
				"Reseal": errOf(store.Reseal(bounded(t), latchkey.ResealOptions{})),
			} {
				failsWith(t, name+": "+call, err, "the AEAD")
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, leaked) {
					t.Errorf("%s: %s: the error shows what the AEAD said: %s", name, call, text)
				}
			}
		}
	})
}

// foreignAEAD is an AEAD of a host's that does not work, and quotes a secret of its own and
// whatever it was given.
type foreignAEAD struct{ panics bool }

func (a foreignAEAD) Encrypt(text, _ []byte) ([]byte, error) {
	said := fmt.Sprintf("kms: %s: cannot seal %s", leaked, text)
	if a.panics {
		panic(said)
	}
	return nil, errors.New(said)
}

func (a foreignAEAD) Decrypt(ciphertext, data []byte) ([]byte, error) {
	return a.Encrypt(ciphertext, data)
}

// TestExportOfAHalfSealedRow (invariant 14): a plain token in a sealed row, put there by hand or by
// another program, leaves the table with --reveal alone.
func TestExportOfAHalfSealedRow(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		db := s.open(t, s.migrated(t), "")
		store := storeWith(t, db, production)
		for _, column := range []string{"access_token", "refresh_token", "extra"} {
			put(t, store, alice, longGrant.Grant)
			execute(t, db, "UPDATE credentials SET "+column+" = ?", `{"a": "marked"}`)
			for e, err := range store.Export(bounded(t), "", false) {
				failsWith(t, "Export with a plain "+column, err, "not sealed")
				equal(t, "the exported credential", fmt.Sprint(e), fmt.Sprint(latchkey.Exported{Key: alice}))
			}
		}
	})
}
