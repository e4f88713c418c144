package wire

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Histogram counts durations in buckets, 16 to each power of two of nanoseconds: quantiles are at
// most a sixteenth too high, and the size does not grow with the number of durations.
type Histogram struct {
	Counts map[int]int   `json:"counts,omitempty"` // The key is the number of the bucket.
	Max    time.Duration `json:"max,omitempty"`    // Max is exact.
}

const bitsPerPower = 4

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<bitsPerPower {
		return int(n)
	}
	shift := bits.Len64(n) - bitsPerPower - 1
	return shift<<bitsPerPower + int(n>>shift)
}

// bucketEnd returns the longest duration in the bucket.
func bucketEnd(bucket int) time.Duration {
	if bucket < 1<<bitsPerPower {
		return time.Duration(bucket)
	}
	shift := bucket>>bitsPerPower - 1
	return time.Duration(uint64(bucket-shift<<bitsPerPower+1)<<shift - 1)
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	if h.Counts == nil {
		h.Counts = make(map[int]int)
	}
	h.Counts[bucketOf(d)]++
	h.Max = max(h.Max, d)
}

// Merge counts the durations of other.
func (h *Histogram) Merge(other Histogram) {
	if h.Counts == nil {
		h.Counts = make(map[int]int)
	}
	for bucket, n := range other.Counts {
		h.Counts[bucket] += n
	}
	h.Max = max(h.Max, other.Max)
}

// Quantile returns the duration of the nearest rank to q, which is between 0 and 1. Without
// durations, the quantile is 0.
func (h Histogram) Quantile(q float64) time.Duration {
	total := 0
	for _, n := range h.Counts {
		total += n
	}
	left := int(math.Ceil(q * float64(total)))
	for _, bucket := range slices.Sorted(maps.Keys(h.Counts)) {
		if left -= h.Counts[bucket]; left <= 0 {
			return min(bucketEnd(bucket), h.Max)
		}
	}
	return 0
}
