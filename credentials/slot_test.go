package credentials

import (
	"testing"
	"testing/synctest"
	"time"
)

// snapshotOf is a snapshot of that row and version, which ends at that time, or up to late after.
func snapshotOf(row, version uint64, text string, expires, late time.Duration) *snapshot {
	return &snapshot{
		token: Token{Value: NewSecret(text), id: TokenID{Row: row, Version: version}}, asked: time.Now(),
		quiet: moment(expires / 2), expires: moment(expires), latest: moment(expires + late),
	}
}

func TestMerge(t *testing.T) {
	const minute = time.Minute
	synctest.Test(t, func(t *testing.T) {
		s := &slot{engine: &engine{clock: clock{epoch: time.Now()}}}
		time.Sleep(minute)
		older := snapshotOf(2, 1, "asked first", 60*minute, 0)
		time.Sleep(time.Second)
		for _, test := range []struct {
			name       string
			held, next *snapshot
			want       string
			expires    time.Duration
		}{
			{"none held", nil, snapshotOf(1, 5, "next", 9*minute, 0), "next", 9 * minute},
			{"newer", snapshotOf(1, 5, "held", 9*minute, 0), snapshotOf(1, 6, "next", 8*minute, 0), "next", 8 * minute},
			{"older", snapshotOf(1, 5, "held", 9*minute, 0), snapshotOf(1, 4, "next", 90*minute, 0), "held", 9 * minute},
			{"older, held has ended", snapshotOf(1, 5, "held", minute, 0), snapshotOf(1, 4, "next", 9*minute, 0), "next", 9 * minute},
			{"other row, asked later", older, snapshotOf(1, 1, "next", 9*minute, 0), "next", 9 * minute},
			{"other row, asked first", snapshotOf(1, 5, "held", 9*minute, 0), older, "held", 9 * minute},
			{"same, slow answer", snapshotOf(1, 5, "same", 9*minute, 0), snapshotOf(1, 5, "same", 8*minute, 2*minute), "same", 9 * minute},
			{"same, more precise", snapshotOf(1, 5, "same", 8*minute, 2*minute), snapshotOf(1, 5, "same", 9*minute, 0), "same", 9 * minute},
			{"same, clock set back", snapshotOf(1, 5, "same", 9*minute, time.Second), snapshotOf(1, 5, "same", 69*minute, 0), "same", 9*minute + time.Second},
			{"same, clock set back after its end", snapshotOf(1, 5, "same", minute, 0), snapshotOf(1, 5, "same", 69*minute, 0), "same", minute},
			{"same version, other token", snapshotOf(1, 5, "held", 9*minute, 0), snapshotOf(1, 5, "next", 8*minute, 0), "next", 8 * minute},
		} {
			got := test.held.merge(test.next, s.clock)
			if got.token.Value.Reveal() != test.want || got.expires.sub(0) != test.expires || got.quiet > got.expires {
				t.Errorf("%s: got %s until %v, quiet until %v; want %s until %v",
					test.name, got.token.Value.Reveal(), got.expires.sub(0), got.quiet.sub(0), test.want, test.expires)
			}
		}
	})
}
