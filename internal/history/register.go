package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// register is one credential's state. Its sets are bit sets in strings, so that states can be
// compared with ==.
type register struct {
	refresh   int    // the refresh token that is in the row; 0: none yet
	grant     set    // the refresh tokens of the present grant
	version   uint64 // of the claim whose result is in the row; 0: a put's
	committed set    // access tokens
	used      set    // refresh tokens
}

// input is an operation with its tokens numbered from 1.
type input struct {
	Operation

	token, refresh, next int
	expired              bool // the token had expired when the caller asked
}

// step is what the operation does to the register; false: it cannot happen to it.
func step(state, in, _ any) (bool, any) {
	r, o := state.(register), in.(input)
	switch o.Kind {
	case Put:
		r.refresh, r.grant, r.version = o.refresh, set("").with(o.refresh), 0
	case Claim:
		return r.refresh == o.refresh, r
	case Present:
		if r.used.has(o.refresh) {
			return false, r
		}
		if o.Used {
			r.used = r.used.with(o.refresh)
		}
	case Commit:
		if !r.grant.has(o.refresh) || o.Version <= r.version {
			return false, r
		}
		r.refresh, r.version = o.next, o.Version
		r.grant, r.committed = r.grant.with(o.next), r.committed.with(o.token)
	case Observe:
		return r.committed.has(o.token) && !o.expired, r
	}
	return true, r
}

var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: step,
	DescribeOperation: func(in, _ any) string {
		o := in.(input)
		return fmt.Sprintf("%s by %s (token %s, refresh token %s, next %s, version %d)", o.Kind, o.By, o.Token, o.Refresh, o.Next, o.Version)
	},
}

type result int

const (
	possible result = iota
	impossible
	undecided
)

// search looks for an order of one credential's operations that the register allows. Where there is
// none, stuck describes the first operation that the longest order leaves out.
func search(operations []Operation, limit time.Duration) (stuck string, _ result) {
	prepared := prepare(operations)
	switch porcupine.CheckOperationsTimeout(model, prepared, limit) {
	case porcupine.Ok:
		return "", possible
	case porcupine.Unknown:
		return "", undecided
	}
	_, info := porcupine.CheckOperationsVerbose(model, prepared, limit)
	var longest []int
	for _, order := range slices.Concat(info.PartialLinearizations()...) {
		if len(order) > len(longest) {
			longest = order
		}
	}
	fits := make(map[int]bool)
	for _, i := range longest {
		fits[i] = true
	}
	var out []porcupine.Operation
	for i, o := range prepared {
		if !fits[i] {
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		return "(nothing: time ran out)", impossible
	}
	first := slices.MinFunc(out, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	return model.DescribeOperation(first.Input, nil), impossible
}

// prepare makes porcupine's operations, and fewer of them, since a search among many that overlap
// takes for ever.
//
// Of the callers that got the same token it keeps the one that got it first, and one that asked
// after its end: once a token is committed it stays so, therefore an order that has room for those
// has room for all.
func prepare(operations []Operation) []porcupine.Operation {
	operations = settle(operations)
	numbers := make(map[string]int)
	number := func(name string) int {
		if name == "" {
			return 0
		}
		if numbers[name] == 0 {
			numbers[name] = len(numbers) + 1
		}
		return numbers[name]
	}
	expires := make(map[string]int64)
	for _, o := range operations {
		if o.Kind == Commit && o.Expires != 0 {
			expires[o.Token] = o.Expires
		}
	}
	type observation struct {
		token   string
		expired bool
	}
	first := make(map[observation]Operation)
	var prepared []porcupine.Operation
	add := func(o Operation, expired bool) {
		prepared = append(prepared, porcupine.Operation{
			Input: input{Operation: o, token: number(o.Token), refresh: number(o.Refresh), next: number(o.Next), expired: expired},
			Call:  o.Start, Return: o.End,
		})
	}
	for _, o := range operations {
		if o.Kind != Observe {
			add(o, false)
			continue
		}
		end, known := expires[o.Token]
		seen := observation{o.Token, known && o.Start > end}
		if earliest, ok := first[seen]; !ok || o.End < earliest.End {
			first[seen] = o
		}
	}
	for seen, o := range first {
		add(o, seen.expired)
	}
	return prepared
}

// settle decides whether the writes took effect of which nobody knows. One whose refresh token or
// token turns up elsewhere did, before that operation ended. Any other may as well not have: as
// long as it was in the row, nobody looked.
func settle(operations []Operation) []Operation {
	turnedUp := make(map[string]int64) // when at the latest, by token
	witness := func(token string, end int64) {
		if before, ok := turnedUp[token]; token != "" && (!ok || end < before) {
			turnedUp[token] = end
		}
	}
	for _, o := range operations {
		switch o.Kind {
		case Claim, Present:
			witness(o.Refresh, o.End)
		case Commit:
			if !o.unsure() {
				witness(o.Refresh, o.End)
			}
		case Observe:
			witness(o.Token, o.End)
		}
	}
	var settled []Operation
	for _, o := range operations {
		if o.unsure() {
			written, end := o.Next, int64(Forever)
			if o.Kind == Put {
				written = o.Refresh
			}
			for _, name := range []string{written, o.Token} {
				if at, ok := turnedUp[name]; ok && name != "" {
					end = min(end, at)
				}
			}
			if end == Forever {
				continue
			}
			o.End = max(end, o.Start)
		}
		settled = append(settled, o)
	}
	return settled
}

// set is a set of small numbers.
type set string

func (s set) has(n int) bool {
	return n/8 < len(s) && s[n/8]&(1<<(n%8)) != 0
}

func (s set) with(n int) set {
	bits := make([]byte, max(len(s), n/8+1))
	copy(bits, s)
	bits[n/8] |= 1 << (n % 8)
	return set(bits)
}
