package credentials

import (
	"testing"
	"time"
)

// A provider answers once, and before the keeper has looked at what is the backlog, exchanges that were under way fail:
// the backlog begins where it did.
func TestCircuitThatOpensAgainKeepsItsBacklog(t *testing.T) {
	var c circuit
	fail := func(at time.Duration) {
		for range circuitOpens {
			c.failed(at, at, 0, false)
		}
	}
	fail(time.Minute)
	c.answered()
	fail(10 * time.Minute)
	if !c.open {
		t.Fatal("it is not open")
	}
	c.answered()
	c.windows(0, 20*time.Minute)
	if c.old < time.Minute || c.old > time.Minute+time.Second {
		t.Errorf("the backlog begins at %v, want a minute, when the provider went down", c.old)
	}
}
