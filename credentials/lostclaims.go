package credentials

import (
	"sync"
)

// lostClaims are the claims of this process under which nothing was presented and nobody works,
// though their leases may stand in the store: the reply to the claim was lost, or its release
// failed. Were such a lease left to lapse, the next claim would take for interrupted an exchange
// that never began. So the process looks for each in the background until the lease is given up or
// known not to be there; a refresh that comes upon the lease first uses it as its own; and a claim
// of this process that takes the lease over says that it was not used.
type lostClaims struct {
	mu   sync.Mutex
	rows map[lostClaim]map[uint64]leaseUse // by claim: the rows whose lease this process has taken up
}

// leaseUse says how a lost claim's lease in one row was taken up.
type leaseUse int

const (
	unusedLease   leaseUse = iota
	usedLease              // a refresh presents under it, or gives it up
	releasedLease          // a release was sent, which may yet take effect: nothing is presented
)

// lostClaim names a claim and, where that is known, the one row it is about; zero: whichever rows
// it claimed.
type lostClaim struct {
	id  string
	row uint64
}

// namesOf returns the names under which the claim of c's lease may be lost.
func namesOf(c Credential) []lostClaim { return []lostClaim{{c.Lease.ID, c.Row}, {c.Lease.ID, 0}} }

// add notes that a claim is lost; use is how the lease of its one row was taken up already.
func (l *lostClaims) add(claim lostClaim, use leaseUse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rows == nil {
		l.rows = make(map[lostClaim]map[uint64]leaseUse)
	}
	l.rows[claim] = map[uint64]leaseUse{claim.row: use}
}

func (l *lostClaims) remove(claim lostClaim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.rows, claim)
}

// find returns the rows of the lost claim whose lease c bears, nil if there is none. l.mu is held.
func (l *lostClaims) find(c Credential) map[uint64]leaseUse {
	if c.Lease.ID == "" {
		return nil
	}
	for _, claim := range namesOf(c) {
		if rows := l.rows[claim]; rows != nil {
			return rows
		}
	}
	return nil
}

// has reports whether c bears the lease of a lost claim under which nothing was presented.
func (l *lostClaims) has(c Credential) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := l.find(c)
	return rows != nil && rows[c.Row] != usedLease
}

// adopt reports whether c bears the lease of a lost claim that nobody has taken up, and gives the
// lease to the caller, who presents the refresh token under it or gives it up.
func (l *lostClaims) adopt(c Credential) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := l.find(c)
	if rows == nil || rows[c.Row] != unusedLease {
		return false
	}
	rows[c.Row] = usedLease
	return true
}

// release reports whether c bears the lease of a lost claim that may be released, and notes that a
// release is sent.
func (l *lostClaims) release(c Credential) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := l.find(c)
	if rows == nil || rows[c.Row] == usedLease {
		return false
	}
	rows[c.Row] = releasedLease
	return true
}
