package credentials

import "time"

// Stats are the figures of a manager, as [Manager.Stats] returns them. Counters begin at zero with
// the manager.
type Stats struct {
	// Exchanges of this process, for callers and by its keeper together. Their sum is less than the
	// number of exchanges that began by those that ended without a result of their own: superseded
	// or released (see [Outcome]).
	Renewed   int // exchanges that brought a token, which is stored
	Failed    int // exchanges that failed, to be tried again when the back-off in the row is over
	Dead      int // grants whose death this process has recorded
	SavedLate int // of Renewed and beside it: successes that were saved when their time was over
	TookOver  int // exchanges under the lease of a holder that seemed dead

	// Callers that found no valid token in the process and waited for the store or an exchange.
	Waits    int           // how many there were
	WaitTime time.Duration // the sum of their waits

	StoreFailures int // calls of the store that were not answered
	EventsLost    int // events that the [Observer] was not told of, since it did not return

	// How things stand now.
	Cached     int  // credentials whose tokens the process keeps, see Options.CacheSize
	Calls      int  // credentials that a goroutine reads, waits for or renews
	Exchanging int  // exchanges under way, or whose result is not stored yet
	StoreDown  bool // the store does not answer, and one call at a time is tried
}

// KeeperStats are the figures of a keeper for one service. The exchanges are among those of
// [Stats].
type KeeperStats struct {
	Renewed int // exchanges that brought a token, which is stored
	Failed  int // exchanges that failed, to be tried again when the back-off in the row is over
	Dead    int // grants whose death this process has recorded

	Exchanging     int  // exchanges under way, or whose result is not stored yet
	ProviderDown   bool // the provider is taken for down, and one exchange is tried at a time
	MassDeath      bool // accounts in a row were declared dead: as above, and no more are marked
	UnknownService bool // credentials are due, and left for processes that know the service
}

// plus adds up the figures of two passes, of which later knows how the service stands.
func (s KeeperStats) plus(later KeeperStats) KeeperStats {
	later.Renewed += s.Renewed
	later.Failed += s.Failed
	later.Dead += s.Dead
	later.Exchanging += s.Exchanging
	return later
}

// ended counts the end of an exchange.
func (s *KeeperStats) ended(o Outcome, class Class) {
	s.Exchanging--
	countEnd(o, class, &s.Renewed, &s.Failed, &s.Dead)
}

// ended counts the end of an exchange.
func (s *Stats) ended(e ExchangeInfo) {
	s.Exchanging--
	countEnd(e.Outcome, e.Class, &s.Renewed, &s.Failed, &s.Dead)
}

func countEnd(o Outcome, class Class, renewed, failed, dead *int) {
	switch {
	case o == OutcomeSaved:
		*renewed++
	case o == OutcomeFailed && class == ClassDead:
		*dead++
	case o == OutcomeFailed || o == OutcomeUnsaved:
		*failed++
	}
}
