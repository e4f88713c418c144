package storm

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
)

// journal is what the parent knows of a storm with faults: what the workers said that they did, and what was done to
// them. Times are history.Now's.
type journal struct {
	mu         sync.Mutex // guards what follows
	entries    []entry
	killed     map[int]int64 // when, by worker
	pauses     []stop
	restarts   []stop // worker is 0
	puts       []putting
	withdrawn  int        // grants that their owner ended at the provider
	replaced   int        // grants that another was put in place of, though they were alive
	dead       []int      // accounts whose callers are told to authorize again, since the last put
	violations violations // that are noticed on the way
}

// entry is a worker's record.
type entry struct {
	worker int
	record
}

// stop is a time in which a worker, or the server, did nothing. to is 0 while it lasts.
type stop struct {
	worker   int
	from, to int64
}

func (s stop) overlaps(from, to int64) bool { return s.from <= to && (s.to == 0 || s.to >= from) }

// putting is a new grant that was stored for an account. end is history.Forever where nobody knows whether it was.
type putting struct {
	account    int
	refresh    string // the fingerprint
	serial     int64
	start, end int64
}

func newJournal() *journal {
	return &journal{killed: make(map[int]int64)}
}

func (j *journal) copy() *journal {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &journal{
		entries: slices.Clone(j.entries), killed: maps.Clone(j.killed), pauses: slices.Clone(j.pauses), restarts: slices.Clone(j.restarts),
		puts: slices.Clone(j.puts), withdrawn: j.withdrawn, replaced: j.replaced, violations: slices.Clone(j.violations),
	}
}

func (j *journal) add(worker int, r record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry{worker, r})
	if r.Deed != didCall || r.Class != "reauth_required" || slices.Contains(j.dead, r.Account) {
		return
	}
	for _, p := range j.puts {
		if p.account == r.Account && r.Start < p.end && (p.end != history.Forever || r.Start < p.start) {
			return // it is about the grant before
		}
	}
	j.dead = append(j.dead, r.Account)
}

func (j *journal) violated(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.violations.violated(format, args...)
}

// kill notes that the worker is about to be killed.
func (j *journal) kill(worker int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.killed[worker] = history.Now()
}

// pause notes that the worker is about to be stopped.
func (j *journal) pause(worker int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pauses = append(j.pauses, stop{worker: worker, from: history.Now()})
}

// resumed notes that the worker runs again.
func (j *journal) resumed(worker int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.pauses {
		if j.pauses[i].worker == worker && j.pauses[i].to == 0 {
			j.pauses[i].to = history.Now()
		}
	}
}

// restarting notes that the server is about to be killed; the function that it returns, that it is back.
func (j *journal) restarting() (back func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := len(j.restarts)
	j.restarts = append(j.restarts, stop{from: history.Now()})
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.restarts[i].to = history.Now()
	}
}

func (j *journal) put(p putting) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.puts = append(j.puts, p)
	j.dead = slices.DeleteFunc(j.dead, func(account int) bool { return account == p.account })
}

// deadAccounts returns the accounts that need a new authorization.
func (j *journal) deadAccounts() []int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.dead)
}

func (j *journal) replace() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.replaced++
}

func (j *journal) withdraw() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.withdrawn++
}

// claimedSince reports whether somebody has claimed the account since that time.
func (j *journal) claimedSince(account int, since int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := len(j.entries) - 1; i >= 0; i-- {
		if e := j.entries[i]; e.Deed == didClaim && e.Account == account && e.Start > since {
			return true
		}
	}
	return false
}

// overlap is how much of the time between from and to the worker was stopped.
func overlap(stops []stop, worker int, from, to int64) time.Duration {
	var sum int64
	for _, s := range stops {
		if s.worker == worker && s.overlaps(from, to) {
			end := to
			if s.to != 0 {
				end = min(end, s.to)
			}
			sum += max(0, end-max(s.from, from))
		}
	}
	return time.Duration(sum)
}
