package storm

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"
)

// histogram counts durations in buckets, 16 to each power of two of nanoseconds: percentiles come out at most a
// sixteenth too high, and the size does not grow with the number of calls.
type histogram struct {
	Counts map[int]int   `json:"counts,omitempty"` // by bucket
	Most   time.Duration `json:"most,omitempty"`   // the longest, exactly
}

const perPowerBits = 4 // 16 buckets

// bucket returns the number of the bucket that d is in.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<perPowerBits {
		return int(n)
	}
	shift := bits.Len64(n) - perPowerBits - 1
	return shift<<perPowerBits + int(n>>shift)
}

// bucketEnd returns the longest duration that is in that bucket.
func bucketEnd(bucket int) time.Duration {
	if bucket < 1<<perPowerBits {
		return time.Duration(bucket)
	}
	shift := bucket>>perPowerBits - 1
	return time.Duration(uint64(bucket-shift<<perPowerBits+1)<<shift - 1)
}

func (h *histogram) add(d time.Duration) {
	if h.Counts == nil {
		h.Counts = make(map[int]int)
	}
	h.Counts[bucket(d)]++
	h.Most = max(h.Most, d)
}

func (h *histogram) merge(other histogram) {
	if h.Counts == nil {
		h.Counts = make(map[int]int)
	}
	for bucket, n := range other.Counts {
		h.Counts[bucket] += n
	}
	h.Most = max(h.Most, other.Most)
}

// latency computes percentiles by the nearest rank. All are 0 for nobody.
func (h *histogram) latency() Latency {
	total := 0
	for _, n := range h.Counts {
		total += n
	}
	rank := func(p float64) float64 {
		left := int(math.Ceil(p * float64(total)))
		for _, bucket := range slices.Sorted(maps.Keys(h.Counts)) {
			if left -= h.Counts[bucket]; left <= 0 {
				return preciseMilliseconds(min(bucketEnd(bucket), h.Most))
			}
		}
		return 0
	}
	return Latency{P50: rank(0.50), P99: rank(0.99), Max: preciseMilliseconds(h.Most)}
}

// preciseMilliseconds rounds to a ten-thousandth: a token out of the cache takes less than a thousandth.
func preciseMilliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e7) / 1e4 }
