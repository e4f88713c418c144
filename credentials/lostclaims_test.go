package credentials

import "testing"

// leased returns a credential of that row under the lease of that claim.
func leased(row uint64, id string) Credential { return Credential{Row: row, Lease: Lease{ID: id}} }

// One row of a batch could not be released: that row's lease is found again, and not those of the
// rows that are exchanged under the same claim.
func TestLostClaimOfOneRowOfABatch(t *testing.T) {
	var l lostClaims
	l.add(lostClaim{id: "batch", row: 2}, unusedLease)
	if l.has(leased(1, "batch")) || l.adopt(leased(1, "batch")) {
		t.Error("a row that is being exchanged was given away")
	}
	if !l.has(leased(2, "batch")) || !l.adopt(leased(2, "batch")) {
		t.Error("the row that is lost was not found")
	}
}

// Each row of a lost batch is adopted once, by the first that asks for it, and is released by
// nobody else.
func TestLostClaimIsAdoptedOnce(t *testing.T) {
	var l lostClaims
	if none := leased(1, ""); l.has(none) || l.adopt(none) {
		t.Error("a row without lease is nobody's")
	}
	l.add(lostClaim{id: "batch"}, unusedLease)
	for row := range uint64(3) {
		c := leased(row, "batch")
		if !l.adopt(c) || l.adopt(c) || l.has(c) || l.release(c) {
			t.Errorf("row %d is not adopted exactly once", row)
		}
	}
	// A lease that was adopted and could not be released is lost anew, by itself.
	one := leased(1, "batch")
	l.add(lostClaim{id: "batch", row: 1}, releasedLease)
	if !l.has(one) || !l.release(one) {
		t.Error("a row that was lost again is not released")
	}
	l.remove(lostClaim{id: "batch", row: 1})
	l.remove(lostClaim{id: "batch"})
	if l.has(one) {
		t.Error("a claim that is not lost any more was found")
	}
}

// A release that was sent may take effect at any time: nothing is presented under its lease any
// more, the release may be repeated, and a new claim may say that the lease was not used.
func TestLostClaimThatIsReleasedIsNotAdopted(t *testing.T) {
	var l lostClaims
	c := leased(1, "claim")
	l.add(lostClaim{id: "claim"}, unusedLease)
	if !l.release(c) || l.adopt(c) {
		t.Error("a lease that may be given up at any time was adopted")
	}
	if !l.has(c) || !l.release(c) {
		t.Error("the lease cannot be named as unused, or released again")
	}
}
