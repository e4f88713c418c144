package credentials

import (
	"context"
	"errors"
	"time"
)

// settled is how long after a claim whose reply was lost it may still take effect, while the store answers: a COMMIT
// that waits for a slow disk or a replica.
const settled = 10 * time.Second

// followUp has somebody look for a claim that may have been made, should nobody ask for the token soon. If its lease were
// left to lapse, the next claim would take for interrupted what was never begun. It is called within a flight.
func (s *Source) followUp(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil || s.claimID == "" || s.looking {
		return // that flight follows up, or somebody does already
	}
	s.looking = true
	s.m.flights.Go(func() { s.lookForClaim(ctx) })
}

// lookForClaim looks for the claim until it is found or known not to be made, or its lease is over; while the manager is
// closed, no longer than it could still take effect if the store answered.
func (s *Source) lookForClaim(ctx context.Context) {
	for attempt := 0; s.m.pauseFor(backOff(50*time.Millisecond, 5*time.Second, attempt)); attempt++ {
		if s.look(ctx) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looking = false
}

// look reports whether there is nothing more to look for, and notes it in the same moment: a claim that is lost after
// that has somebody else look for it.
func (s *Source) look(ctx context.Context) (ended bool) {
	s.mu.Lock()
	if s.flight != nil { // it repeats the claim
		s.mu.Unlock()
		return false
	}
	claim, claimedAt := s.claimID, s.claimedAt
	s.mu.Unlock()

	t := &trip{Source: s, flight: s.newFlight(Secret{})}
	age := s.m.now() - claimedAt
	over := claim == "" || age > s.m.opts.Lease || s.m.isClosing() && age > settled
	var c Credential
	var err error
	if !over {
		c, _, err = t.get(ctx)
	}

	s.mu.Lock()
	found := false
	switch {
	case s.flight != nil || s.claimID != claim || s.claimedAt != claimedAt: // somebody has repeated it meanwhile
	case over:
		ended = true
	case err == nil && c.Lease.ID == claim && c.Lease.Live():
		found = true
		s.flight = t.flight
	case errors.Is(err, ErrNotFound), err == nil && (age > settled || s.m.isClosing()):
		ended = true
		s.claimID = "" // it was not made
	}
	s.looking = !ended
	s.mu.Unlock()
	if found {
		t.run(ctx)
	}
	return ended
}
