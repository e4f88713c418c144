package credentials

// KeeperStats are the figures of a keeper for one service.
type KeeperStats struct {
	Renewed int // exchanges that brought a token, which is stored
	Failed  int // exchanges that failed, to be tried again when the back-off in the row is over
	Dead    int // grants that the provider declared dead

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
