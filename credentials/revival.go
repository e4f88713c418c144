package credentials

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// DefaultReviveRate is how many revived credentials fall due per second.
const DefaultReviveRate = 50

// Revival asks a store's Revive for grants that were marked dead by mistake, as by a wrong client:
// the mark is cleared, and the credential is due. A grant that came to an end unconfirmed
// ([CodeUnconfirmed]) is revived too. Of the grants that a policy gave up
// ([CodeInterrupted], [CodeUnknown]) none is revived, since the refresh token may have been used
// up. A credential that was put, or whose exchange succeeded, bears no mark any more.
type Revival struct {
	// Service is whose grants are revived.
	Service string

	// Since is how long ago, at most, the grants were marked, by the store's clock. More than zero.
	Since time.Duration

	// Rate is how many of them fall due per second. Callers that ask for a token do not wait for
	// that; keepers take the credentials in the order in which they fall due, and those that are
	// due anyway in between. Zero: DefaultReviveRate.
	Rate float64

	// DryRun reads and counts, and writes nothing.
	DryRun bool

	// Each, if set, is called with the name of each grant that was revived, or would be.
	Each func(Key)
}

// Normalize returns the revival as a store makes it: under the service's normalized name, with the
// default of its rate. The error says what cannot be right.
func (r Revival) Normalize() (Revival, error) {
	service, err := NormalizeService(r.Service)
	switch {
	case err != nil:
		return Revival{}, err
	case r.Since <= 0:
		return Revival{}, fmt.Errorf("grants of %s are to be revived that were marked since %v; "+
			"more than 0 is needed", service, r.Since)
	case !validRate(r.Rate):
		return Revival{}, fmt.Errorf("grants of %s are to be revived at a rate of %v per second; "+
			"it must be a number that is not negative", service, r.Rate)
	}
	r.Service = service
	r.Rate = cmp.Or(r.Rate, DefaultReviveRate)
	if r.Each == nil {
		r.Each = func(Key) {}
	}
	return r, nil
}

// DueIn returns when so many of the revived credentials have fallen due.
func (r Revival) DueIn(n int) time.Duration {
	const most = 1e9 // seconds
	return time.Duration(min(float64(n)/r.Rate, most) * float64(time.Second))
}

// validRate reports whether rate is a number that is not negative. NaN is none.
func validRate(rate float64) bool { return rate >= 0 && !math.IsInf(rate, 1) }
