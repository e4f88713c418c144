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
	s.m.flights.Go(func() {
		s.lookForClaim(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.looking = false
	})
}

// lookForClaim looks for the claim until it is found or known not to be made, or its lease is over.
func (s *Source) lookForClaim(ctx context.Context) {
	for attempt := 0; s.m.pauseFor(backOff(50*time.Millisecond, 5*time.Second, attempt)); attempt++ {
		s.mu.Lock()
		if s.flight != nil { // it repeats the claim
			s.mu.Unlock()
			continue
		}
		claim, age := s.claimID, s.m.now()-s.claimedAt
		s.mu.Unlock()
		if claim == "" || age > s.m.opts.Lease {
			return
		}
		t := &trip{Source: s, flight: s.newFlight(Secret{})}
		c, _, err := t.get(ctx)
		switch {
		case err == nil && c.Lease.ID == claim && c.Lease.Live():
			s.mu.Lock()
			found := s.flight == nil && s.claimID == claim
			if found {
				s.flight = t.flight
			}
			s.mu.Unlock()
			if found {
				t.run(ctx)
			}
		case errors.Is(err, ErrNotFound), err == nil && (age > settled || s.m.isClosing()):
			return
		}
	}
}
