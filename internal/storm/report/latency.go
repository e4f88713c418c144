package report

import (
	"math"
	"slices"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// Latency describes how long callers waited for their token, from the signal on, in milliseconds.
// Over several lifetimes it describes how long a call took; see [Renewals].
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// LatencyOf computes quantiles by the nearest rank. Without durations, all are 0.
func LatencyOf(took []time.Duration) Latency {
	if len(took) == 0 {
		return Latency{}
	}
	took = slices.Sorted(slices.Values(took))
	rank := func(q float64) float64 {
		return Milliseconds(took[max(0, int(math.Ceil(q*float64(len(took))))-1)])
	}
	return Latency{P50: rank(0.50), P99: rank(0.99), Max: rank(1)}
}

// LatencyOfHistogram is in ten-thousandths of a millisecond: a token out of the cache takes less
// than a thousandth.
func LatencyOfHistogram(h wire.Histogram) Latency {
	precise := func(d time.Duration) float64 { return math.Round(d.Seconds()*1e7) / 1e4 }
	return Latency{
		P50: precise(h.Quantile(0.50)), P99: precise(h.Quantile(0.99)), Max: precise(h.Max),
	}
}

// Milliseconds rounds to a tenth of a millisecond.
func Milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e4) / 10 }
