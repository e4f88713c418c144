// Package history judges what was recorded of credentials while processes used them: who stored,
// claimed, presented and got what, and when. It asks whether all that can have happened one after
// the other, each operation at one moment between its start and its end, to one register per
// credential that keeps these rules:
//
//   - A put sets the refresh token and begins a new grant. A commit sets token and refresh token;
//     it belongs to the grant of the refresh token that was exchanged, and replaces the result of
//     no later claim.
//   - A claim finds the refresh token that is in the register.
//   - A caller gets a token only after it was committed, and none that had expired before it asked.
//     The token may be older than the register's: processes cache tokens while they are valid.
//   - A refresh token is not presented again once a presentation has used it up to its holder's
//     knowledge.
//
// The search for such an order is porcupine's. Credentials are judged one by one, since nothing
// connects them.
package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Kind is what an operation did.
type Kind string

// The kinds of operations, with the members that they use.
const (
	Put     Kind = "put"     // stored Refresh as a new grant
	Claim   Kind = "claim"   // found Refresh in the row and took the lease, as Version
	Present Kind = "present" // Refresh reached the provider at Start; Used: it is used up, and its holder knows
	Commit  Kind = "commit"  // stored Token and Next, the result of exchanging Refresh under the claim of Version
	Observe Kind = "observe" // a caller got Token
)

// Forever is the End of an operation of which nobody knows whether, or when, it took effect.
const Forever = math.MaxInt64

// Operation is one thing that was done, between Start and End by [Now]. Tokens are named by their
// fingerprints.
type Operation struct {
	Kind       Kind
	Credential string
	By         string // who did it, for people
	Start, End int64

	Token, Refresh, Next string
	Version              uint64

	// Expires is when a committed Token has certainly expired; 0: it is not known to.
	Expires int64

	Used bool
}

func (o Operation) unsure() bool { return o.End == Forever }

// Verdict is what Check found.
type Verdict struct {
	Operations int
	Violations []string // what cannot have happened, in a sentence each
	Undecided  []string // credentials for which time ran out
}

// Check judges the operations. The search of each credential's takes at most limit.
func Check(operations []Operation, limit time.Duration) Verdict {
	verdict := Verdict{Operations: len(operations)}
	byCredential := make(map[string][]Operation)
	var names []string
	for _, o := range operations {
		if _, seen := byCredential[o.Credential]; !seen {
			names = append(names, o.Credential)
		}
		byCredential[o.Credential] = append(byCredential[o.Credential], o)
	}
	slices.Sort(names)
	for _, name := range names {
		own := byCredential[name]
		slices.SortStableFunc(own, func(a, b Operation) int { return cmp.Compare(a.Start, b.Start) })
		// A fault that two operations show by themselves is said in plain words. The search finds
		// it too, but can only say that there is no order.
		if found := plain(own); len(found) > 0 {
			for _, violation := range found {
				verdict.Violations = append(verdict.Violations, name+": "+violation)
			}
			continue
		}
		switch stuck, result := search(own, limit); result {
		case impossible:
			verdict.Violations = append(verdict.Violations,
				fmt.Sprintf("%s: no order of its %d operations explains them; the longest that does ends before: %s", name, len(own), stuck))
		case undecided:
			verdict.Undecided = append(verdict.Undecided, name)
		}
	}
	return verdict
}

// plain returns the violations that two operations of one credential, sorted by start, show by
// themselves. One of each sort will do.
func plain(operations []Operation) []string {
	found := make(map[string]string)
	violated := func(rule, format string, args ...any) {
		if found[rule] == "" {
			found[rule] = fmt.Sprintf(format, args...)
		}
	}
	committed := make(map[string]Operation)
	used := make(map[string]Operation)
	for _, o := range operations {
		switch o.Kind {
		case Commit:
			committed[o.Token] = o
		case Present:
			if before, again := used[o.Refresh]; again {
				violated("used", "the refresh token %s was presented by %s and, %v later, by %s, though it was known to be used up",
					o.Refresh, before.By, since(before.Start, o.Start), o.By)
			}
			if o.Used {
				used[o.Refresh] = o
			}
		}
	}
	for _, o := range operations {
		if o.Kind != Observe {
			continue
		}
		commit, ok := committed[o.Token]
		switch {
		case !ok:
			violated("nobody", "%s got the token %s, which nobody committed", o.By, o.Token)
		case o.End < commit.Start:
			violated("early", "%s got the token %s %v before %s began to commit it", o.By, o.Token, since(o.End, commit.Start), commit.By)
		case commit.Expires != 0 && o.Start > commit.Expires:
			violated("expired", "%s asked %v after the token %s had expired, and got it; to store it took %s %v",
				o.By, since(commit.Expires, o.Start), o.Token, commit.By, since(commit.Start, commit.End))
		}
	}
	var violations []string
	for _, rule := range []string{"used", "nobody", "early", "expired"} {
		if found[rule] != "" {
			violations = append(violations, found[rule])
		}
	}
	return violations
}

func since(from, to int64) time.Duration {
	return time.Duration(to - from)
}
