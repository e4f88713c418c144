package storetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
)

var deleteTests = []test{
	{"a credential that is not there", deleteMissing},
	{"everything of it is gone", deleteAll},
	{"put again, it is a new row", deleteThenPut},
	{"only that one is deleted", deleteOnlyOne},
}

var keyTests = []test{
	{"a credential that is not there", keyMissing},
	{"normalized in a put", keyNormalized},
	{"an invalid key is refused in a put", keyInvalid},
	{"accounts are told apart byte by byte", keyAccounts},
	{"service and account do not run together", keyParts},
	{"the longest names", keyLongest},
}

// missing fails the test unless there is no such credential.
func missing(s *subject) {
	s.Helper()
	if c, err := s.store.Get(s.Context(), s.key); !errors.Is(err, credentials.ErrNotFound) {
		s.Errorf("Get(%v): got error %v, want ErrNotFound; got %+v", s.key, err, steady(c))
	}
	claim := credentials.Claim{ID: rand.Text(), Holder: "A", Lease: long}
	if c, err := s.store.Claim(s.Context(), s.key, claim); !errors.Is(err, credentials.ErrNotFound) {
		s.Errorf("Claim(%v): got error %v, want ErrNotFound; got %+v", s.key, err, steady(c))
	}
}

func deleteMissing(s *subject) {
	if err := s.store.Delete(s.Context(), s.key); !errors.Is(err, credentials.ErrNotFound) {
		s.Errorf("Delete: got error %v, want ErrNotFound", err)
	}
}

func deleteAll(s *subject) {
	old := s.seed()
	s.claim("A", long)
	s.delete()
	missing(s)
	if v, ok := s.versions(old)[old.Row]; ok {
		s.Errorf("Versions: got %d for a deleted row, want none", v)
	}
	deleteMissing(s)
}

func deleteThenPut(s *subject) {
	old := s.seed()
	s.claim("A", long)
	s.delete()
	c := s.seed()
	if c.Row == old.Row {
		s.Errorf("Row: got %d again", c.Row)
	}
	hasVersions(s, c, 1, 1)
	free(s, c)
	clean(s, s.claim("B", long))
}

func deleteOnlyOne(s *subject) {
	other := s.under(credentials.Key{Service: s.key.Service, Account: "bob"})
	s.seed()
	before := other.seed()
	s.delete()
	missing(s)
	other.unchanged(before)
}

func keyMissing(s *subject) { missing(s) }

func keyNormalized(s *subject) {
	odd := credentials.Key{Service: "\t " + strings.ToUpper(s.key.Service) + "\n", Account: "  Alice\u00a0"}
	if err := s.store.Put(s.Context(), odd, renewal("put").Grant); err != nil {
		s.Fatalf("Put(%q, %q): %v", odd.Service, odd.Account, err)
	}
	normal := s.under(credentials.Key{Service: s.key.Service, Account: "Alice"})
	c := normal.has(renewal("put").Grant)
	equal(s, "Key", c.Key, normal.key)
	missing(s)

	if err := s.store.Put(s.Context(), odd, renewal("again").Grant); err != nil {
		s.Fatalf("Put(%q, %q), once more: %v", odd.Service, odd.Account, err)
	}
	equal(s, "Row after the second put", normal.has(renewal("again").Grant).Row, c.Row)

	if err := s.store.Delete(s.Context(), odd); err != nil {
		s.Errorf("Delete(%q, %q): %v", odd.Service, odd.Account, err)
	}
	missing(normal)
}

func keyInvalid(s *subject) {
	service := s.key.Service
	for _, key := range []credentials.Key{
		{},
		{Service: "  ", Account: "alice"},
		{Service: service + " x", Account: "alice"},
		{Service: service + "'", Account: "alice"},
		{Service: "-" + service, Account: "alice"},
		{Service: service + "é", Account: "alice"},
		{Service: strings.Repeat("s", credentials.MaxServiceLength+1), Account: "alice"},
		{Service: service, Account: "ali\x00ce"},
		{Service: service, Account: "ali\nce"},
		{Service: service, Account: "ali\xffce"},
		{Service: service, Account: strings.Repeat("é", credentials.MaxAccountLength+1)},
	} {
		if err := s.store.Put(s.Context(), key, renewal("put").Grant); !errors.Is(err, credentials.ErrInvalidKey) {
			s.Errorf("Put(%q, %q): got error %v, want ErrInvalidKey", clip(key.Service), clip(key.Account), err)
		}
	}
}

// accounts are names that a database's collations and padding, or Unicode's normal forms, would
// take for one.
var accounts = []string{
	"", "alice", "Alice", "ALICE", "alice.", "alice1", "می\u200cخواهم", "میخواهم", "alic", "alicé", "alice\u0301", "e", "é", "E",
	"ss", "ß", "i", "ı", "I", "İ", "a b", "a  b", "a\u00a0b", "a_b", "a%b", "%", "_", "a'b", `a"b`, `a\b`, "a`b", "?",
	":account", "0", "00", "１", "1", "漢字", "漢字漢", "🔑", "🔒", "alice@example.com", "null", "NULL",
}

func keyAccounts(s *subject) {
	subjects := make([]*subject, len(accounts))
	for i, name := range accounts {
		subjects[i] = s.under(credentials.Key{Service: s.key.Service, Account: name})
		missing(subjects[i])
		subjects[i].put(renewal("token of " + name).Grant)
	}
	rows := make(map[uint64]string, len(accounts))
	for i, name := range accounts {
		c := subjects[i].has(renewal("token of " + name).Grant)
		equal(s, "Key", c.Key, subjects[i].key)
		equal(s, "Version of the credential of "+name, c.Version, 1)
		if other, ok := rows[c.Row]; ok {
			s.Errorf("the accounts %q and %q have one row", other, name)
		}
		rows[c.Row] = name
	}
	eachIsWritten(s, subjects)
	subjects[1].delete()
	subjects[2].has(renewal("saved 2").Grant)
}

// eachIsWritten claims and saves each of these credentials, whose versions are read at once.
func eachIsWritten(s *subject, subjects []*subject) {
	s.Helper()
	claimed := make([]credentials.Credential, len(subjects))
	for i, one := range subjects {
		claimed[i] = one.claimInvalidating("A")
		equal(s, "Key of the claimed credential", claimed[i].Key, one.key)
	}
	versions := s.versions(claimed...)
	for i, c := range claimed {
		equal(s, "Versions of "+c.Key.String(), versions[c.Row], c.Version)
		subjects[i].save(c, renewal(fmt.Sprint("saved ", i)))
	}
	for i, one := range subjects {
		one.has(renewal(fmt.Sprint("saved ", i)).Grant)
	}
}

func keyParts(s *subject) {
	one := s.under(credentials.Key{Service: s.key.Service + "/a", Account: "b"})
	two := s.under(credentials.Key{Service: s.key.Service, Account: "a/b"})
	three := s.under(credentials.Key{Service: s.key.Service + "/a/b"})
	one.put(renewal("one").Grant)
	missing(two)
	two.put(renewal("two").Grant)
	missing(three)
	three.put(renewal("three").Grant)
	one.has(renewal("one").Grant)
	two.has(renewal("two").Grant)
}

func keyLongest(s *subject) {
	service := s.key.Service + strings.Repeat("s", credentials.MaxServiceLength-len(s.key.Service))
	account := strings.Repeat("🔑", credentials.MaxAccountLength-1)
	keys := []credentials.Key{
		{Service: service, Account: account + "1"}, {Service: service, Account: account + "2"},
		{Service: service, Account: account},
	}
	subjects := make([]*subject, len(keys))
	for i, key := range keys {
		subjects[i] = s.under(key)
		subjects[i].put(renewal(fmt.Sprint("put ", i)).Grant)
	}
	for i, key := range keys {
		equal(s, "Key", subjects[i].has(renewal(fmt.Sprint("put ", i)).Grant).Key, key)
	}
	eachIsWritten(s, subjects)
}
