package audit

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Log is the record of a storm with faults: the actions of the workers, as they recorded them, and
// the faults that the parent made. Times are those of history.Now.
type Log struct {
	Entries      []Entry
	Killed       map[int]int64 // The time of each kill, by worker.
	Pauses       []Downtime
	Restarts     []Downtime // Restarts and Outages are the server's; their Worker is 0.
	Outages      []Downtime
	Puts         []Put
	Withdrawals  int      // Grants that their owner ended at the provider.
	Replacements int      // Grants that were replaced though they were alive.
	Violations   []string // Violations that were noticed on the way.
}

// Entry is a worker's record.
type Entry struct {
	Worker int
	wire.Record
}

// unwritten reports whether the outcome of a write is unknown.
func (e Entry) unwritten() bool { return e.Class == wire.Unwritten }

// Downtime is a time in which a worker, or the server, was stopped. To is 0 while it lasts.
type Downtime struct {
	Worker   int
	From, To int64
}

func (d Downtime) overlaps(from, to int64) bool {
	return d.From <= to && (d.To == 0 || d.To >= from)
}

// Put is a new grant that was stored for an account. End is history.Forever if the outcome of the
// put is unknown.
type Put struct {
	Account    int
	Refresh    string // The fingerprint of the refresh token.
	Serial     int64  // The provider's number of the refresh token.
	Start, End int64
}

// Journal writes a Log. The methods of a Journal may be called concurrently.
type Journal struct {
	mu   sync.Mutex
	log  Log   // guarded by mu
	dead []int // guarded by mu: accounts whose grant is dead since the last put
}

// NewJournal returns an empty journal.
func NewJournal() *Journal { return &Journal{log: Log{Killed: make(map[int]int64)}} }

// Log returns a copy of the log.
func (j *Journal) Log() Log {
	j.mu.Lock()
	defer j.mu.Unlock()
	log := j.log
	log.Entries, log.Killed = slices.Clone(log.Entries), maps.Clone(log.Killed)
	log.Pauses, log.Restarts = slices.Clone(log.Pauses), slices.Clone(log.Restarts)
	log.Outages, log.Puts = slices.Clone(log.Outages), slices.Clone(log.Puts)
	return log
}

// Add adds a worker's record.
func (j *Journal) Add(worker int, r wire.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Entries = append(j.log.Entries, Entry{worker, r})
	if r.Action != wire.Call || r.Class != wire.GrantDead || slices.Contains(j.dead, r.Account) {
		return
	}
	for _, p := range j.log.Puts {
		unknown := p.End == history.Forever
		if p.Account == r.Account && r.Start < p.End && (!unknown || r.Start < p.Start) {
			return // The record is about the grant before that put.
		}
	}
	j.dead = append(j.dead, r.Account)
}

// Violated adds a violation that was noticed on the way.
func (j *Journal) Violated(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Violations = append(j.log.Violations, fmt.Sprintf(format, args...))
}

// Kill notes that the worker is about to be killed.
func (j *Journal) Kill(worker int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Killed[worker] = history.Now()
}

// Pause notes that the worker is about to be stopped. The function that it returns notes that the
// worker runs again.
func (j *Journal) Pause(worker int) (resumed func()) { return j.stop(&j.log.Pauses, worker) }

// Restart notes that the server is about to be killed. The function that it returns notes that the
// server is back.
func (j *Journal) Restart() (back func()) { return j.stop(&j.log.Restarts, 0) }

// Outage notes that the server is about to be away. The function that it returns notes that the
// server is back.
func (j *Journal) Outage() (back func()) { return j.stop(&j.log.Outages, 0) }

func (j *Journal) stop(downtimes *[]Downtime, worker int) (ended func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := len(*downtimes)
	*downtimes = append(*downtimes, Downtime{Worker: worker, From: history.Now()})
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		(*downtimes)[i].To = history.Now()
	}
}

// InOutage reports whether an outage lasts.
func (j *Journal) InOutage() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := len(j.log.Outages)
	return n > 0 && j.log.Outages[n-1].To == 0
}

// Put adds a put, which revives its account.
func (j *Journal) Put(p Put) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Puts = append(j.log.Puts, p)
	j.dead = slices.DeleteFunc(j.dead, func(account int) bool { return account == p.Account })
}

// Dead returns the accounts that need a new authorization.
func (j *Journal) Dead() []int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.dead)
}

// ClaimedSince reports whether a worker has claimed the account since that time.
func (j *Journal) ClaimedSince(account int, since int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.log.Entries, func(e Entry) bool {
		return e.Action == wire.Claim && e.Account == account && e.Start > since
	})
}

// longest returns the duration of the longest downtime.
func longest(downtimes []Downtime) (longest time.Duration) {
	for _, d := range downtimes {
		longest = max(longest, time.Duration(d.To-d.From))
	}
	return longest
}

// overlap returns how much of the time between from and to the worker was stopped.
func overlap(downtimes []Downtime, worker int, from, to int64) time.Duration {
	var sum int64
	for _, d := range downtimes {
		if d.Worker == worker && d.overlaps(from, to) {
			end := to
			if d.To != 0 {
				end = min(end, d.To)
			}
			sum += max(0, end-max(d.From, from))
		}
	}
	return time.Duration(sum)
}
