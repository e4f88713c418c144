package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
)

var getAllTests = []test{
	{"of credentials present and missing, in the order asked for", getAllPresentAndMissing},
	{"of a credential asked for twice", getAllTwice},
	{"of no credential", getAllOfNone},
	{"a key that is not valid concerns no other", getAllInvalid},
	{"keys are normalized", getAllNormalized},
	{"accounts are told apart byte by byte", getAllAccounts},
	{"of hundreds of credentials, of several services", getAllOfHundreds},
	{"as the credential is committed now", getAllNow},
}

// getAll returns one answer per key.
func (s *subject) getAll(keys ...credentials.Key) []credentials.Found {
	s.Helper()
	found, err := s.store.GetAll(s.Context(), keys)
	if err != nil {
		s.Fatalf("GetAll of %d keys: %v", len(keys), err)
	}
	if len(found) != len(keys) {
		s.Fatalf("GetAll of %d keys: got %d answers", len(keys), len(found))
	}
	return found
}

// isFound fails the test unless the answer is that credential, as a Get returns it.
func isFound(s *subject, what string, got credentials.Found, want credentials.Credential) {
	s.Helper()
	if got.Err != nil {
		s.Errorf("%s: got error %v, want the credential %v", what, got.Err, want.Key)
		return
	}
	equal(s, what+": Key", got.Credential.Key, want.Key)
	same(s, what, got.Credential, want)
	if got.Credential.ReadAt < want.ReadAt {
		s.Errorf("%s: ReadAt is %d, before that of the Get before, %d", what, got.Credential.ReadAt, want.ReadAt)
	}
}

// isMissing fails the test unless the answer is that there is no such credential.
func isMissing(s *subject, what string, got credentials.Found) {
	s.Helper()
	if !errors.Is(got.Err, credentials.ErrNotFound) {
		s.Errorf("%s: got error %v, want ErrNotFound; got %+v", what, got.Err, steady(got.Credential))
	}
}

func getAllPresentAndMissing(s *subject) {
	other, absent := s.fresh(), s.fresh()
	s.seed()
	s.claim("A", long)
	one, two := s.get(), other.put(renewal("two").Grant)

	found := s.getAll(two.Key, absent.key, one.Key)
	isFound(s, "the first answer", found[0], two)
	isMissing(s, "the second", found[1])
	isFound(s, "the third", found[2], one)

	isFound(s, "the answer about one", s.getAll(one.Key)[0], one)
	isMissing(s, "the answer about a missing one", s.getAll(absent.key)[0])
}

func getAllTwice(s *subject) {
	absent := s.fresh()
	s.seed()
	c := s.put(renewal("A").Grant)
	found := s.getAll(c.Key, absent.key, c.Key, absent.key, c.Key)
	for _, i := range []int{0, 2, 4} {
		isFound(s, fmt.Sprint("answer ", i), found[i], c)
	}
	isMissing(s, "answer 1", found[1])
	isMissing(s, "answer 3", found[3])
}

func getAllOfNone(s *subject) {
	s.seed()
	equal(s, "the number of answers", len(s.getAll()), 0)
}

func getAllInvalid(s *subject) {
	c := s.seed()
	found := s.getAll(c.Key, credentials.Key{Account: "alice"}, c.Key)
	isFound(s, "the first answer", found[0], c)
	isFound(s, "the third", found[2], c)
	if err := found[1].Err; !errors.Is(err, credentials.ErrInvalidKey) {
		s.Errorf("a key without a service: got error %v, want ErrInvalidKey", err)
	}
}

func getAllNormalized(s *subject) {
	c := s.seed()
	odd := credentials.Key{Service: "  " + strings.ToUpper(c.Key.Service), Account: c.Key.Account + " "}
	for i, found := range s.getAll(odd, c.Key, odd) {
		isFound(s, fmt.Sprint("answer ", i), found, c)
	}
}

func getAllAccounts(s *subject) {
	var keys []credentials.Key
	var want []credentials.Credential
	for i, account := range accounts {
		key := credentials.Key{Service: s.key.Service, Account: account}
		keys = append(keys, key)
		want = append(want, s.under(key).put(renewal(fmt.Sprint(i)).Grant))
	}
	for i, found := range s.getAll(keys...) {
		isFound(s, fmt.Sprintf("account %q", accounts[i]), found, want[i])
	}
}

func getAllOfHundreds(s *subject) {
	const n = 1100
	keys := make([]credentials.Key, n)
	want := make(map[int]credentials.Credential)
	for i := range keys {
		keys[i] = credentials.Key{Service: fmt.Sprintf("%s.%d", s.key.Service, i%3), Account: fmt.Sprint("account ", i)}
		if i%100 == 0 || i == n-1 {
			want[i] = s.under(keys[i]).put(renewal(fmt.Sprint(i)).Grant)
		}
	}
	for i, found := range s.getAll(keys...) {
		what := fmt.Sprint("answer ", i)
		if c, there := want[i]; there {
			isFound(s, what, found, c)
		} else {
			isMissing(s, what, found)
		}
	}
}

func getAllNow(s *subject) {
	s.seed()
	held := s.claim("A", long)
	c := s.get()
	isFound(s, "after a claim", s.getAll(s.key)[0], c)
	c = s.save(held, renewal("A"))
	isFound(s, "after a save", s.getAll(s.key)[0], c)
	s.delete()
	isMissing(s, "after a delete", s.getAll(s.key)[0])
}
