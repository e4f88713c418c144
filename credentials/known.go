package credentials

import "time"

// maxLookInterval is the longest a waiting refresh goes without a look at the lease and the store.
// No more often than that, one row is looked at under its lock, unless it has moved on since.
const maxLookInterval = time.Second

// known is the newest version of a credential's row that a process knows of.
//
// A plain read may be answered by a server that is behind the one that takes the writes: a replica
// behind a proxy that splits reads from writes, say. A claim is not: it decides under the row's
// lock. So a row that is older than what is known is not acted upon, and no caller gets an error
// from a row, or from the lack of one, that no claim has confirmed.
type known struct {
	row, version uint64 // zero: of no row
	until        moment // the row was found so under its lock up to maxLookInterval before; zero: it was not
}

// learn notes what a plain read has shown, if that is newer.
func (k *known) learn(row, version uint64) {
	if k.row == 0 || k.row == row && k.version < version {
		*k = known{row: row, version: version}
	}
}

// isBehind reports whether an answer with that row is older than what is known, or of a row that
// may be.
func (k *known) isBehind(row, version uint64) bool {
	return k.row != 0 && (k.row != row || k.version > version)
}

// confirmed reports whether a claim has found the row so within the last maxLookInterval.
func (k *known) confirmed(row, version uint64, now moment) bool {
	return k.row == row && k.version == version && now < k.until
}
