package storetest

import (
	"errors"
	"fmt"

	"github.com/latchkey-go/latchkey/credentials"
)

var orderTests = []test{
	{"invariants 4 and 5: three holders come back in every order", orderOfThree},
	{"invariants 4 and 5: three holders and a put in every order", orderOfThreeAndPut},
}

// orderOfThree lets three holders of overlapping claims succeed or fail, in every combination and
// order.
func orderOfThree(s *subject) {
	for _, order := range permutations([]int{0, 1, 2}) {
		for successes := range 1 << 3 {
			playOrder(s.fresh(), order, successes)
		}
	}
}

// orderOfThreeAndPut lets a put (3) happen somewhere in between, while all succeed or all fail.
func orderOfThreeAndPut(s *subject) {
	for _, order := range permutations([]int{0, 1, 2, 3}) {
		playOrder(s.fresh(), order, 0)
		playOrder(s.fresh(), order, 1<<3-1)
	}
}

// playOrder makes three claims, the first two of which have ended, and lets their holders come back
// in that order: with a success if the holder's bit is set, else with a failure. playOrder keeps
// account of the contents that the row must have.
func playOrder(s *subject, order []int, successes int) {
	const put, seeded = 3, -1
	seed := s.seed()
	claims := []credentials.Credential{s.lapsed("A"), s.lapsed("B"), s.claim("C", long)}
	name := func(i int) string { return string(rune('A' + i)) }

	stored := seeded // whose token the row holds
	written := false // since the last claim
	failed := false  // the last claim's failure is recorded
	var story string
	for _, i := range order {
		var err, want error
		switch succeeds := i < put && successes>>i&1 == 1; {
		case i == put:
			story += " put"
			s.put(renewal("put").Grant)
			stored, written, failed = put, true, false
		case succeeds:
			story += fmt.Sprintf(" %s saves", name(i))
			err = s.store.Save(s.Context(), claims[i].Fence(), renewal(name(i)))
			if want = credentials.ErrSuperseded; i > stored {
				stored, written, failed, want = i, true, false, nil
			}
		default:
			story += fmt.Sprintf(" %s fails", name(i))
			err = s.store.Fail(s.Context(), claims[i].Fence(), failure(credentials.ClassDead))
			want = credentials.ErrSuperseded
			if i == 2 {
				if !written {
					failed, want = true, nil
				}
				written = true
			}
		}
		if !errors.Is(err, want) {
			s.Errorf("after%s: got error %v, want %v", story, err, want)
		}
	}

	c := s.get()
	token, version := "", seed.TokenVersion
	switch {
	case stored == put:
		token, version = "put", c.TokenVersion
	case stored != seeded:
		token, version = name(stored), claims[stored].Version
	}
	count := 0
	if failed {
		count = 1
	}
	equal(s, "Token after"+story, c.AccessToken.Reveal(), token)
	equal(s, "TokenVersion after"+story, c.TokenVersion, version)
	equal(s, "Failure.Count after"+story, c.Failure.Count, count)
	equal(s, "Lease after"+story, c.Lease, credentials.Lease{})
	if c.Version < c.TokenVersion {
		s.Errorf("after%s: Version %d is behind TokenVersion %d", story, c.Version, c.TokenVersion)
	}
}

// permutations returns the orders of items.
func permutations(items []int) (orders [][]int) {
	if len(items) == 0 {
		return [][]int{nil}
	}
	for i, first := range items {
		var rest []int
		rest = append(append(rest, items[:i]...), items[i+1:]...)
		for _, order := range permutations(rest) {
			orders = append(orders, append([]int{first}, order...))
		}
	}
	return orders
}
