package credentials

import (
	"slices"
	"testing"
	"time"
)

// Whether the keeper looks often or seldom, the cursor stands where time has moved it, and has
// passed the whole backlog within half an hour, or at half the speed at which it became due.
func TestBacklogIsMovedByTimeAlone(t *testing.T) {
	for _, outage := range []time.Duration{2 * time.Minute, 10 * time.Minute, 3 * time.Hour} {
		for _, look := range []time.Duration{time.Second / 4, 10 * time.Second, 5 * time.Minute} {
			var b backlog
			down := moment(time.Hour)
			b.opens(down)
			back := down.add(outage)
			b.closes(back)
			now := back
			for b.windows(down, now); b.moving(now); now = now.add(look) {
				b.windows(down, now)
			}
			want := []window{{after: back, before: never}, {after: down.add(-windowMargin), before: back}}
			if got := b.windows(down, now); !slices.Equal(got, want) {
				t.Errorf("while some of it is left: got %v, want the present first, %v", got, want)
			}
			want = []window{{after: back.add(1 - windowMargin), before: never}}
			if got := b.windows(back+1, now); !slices.Equal(got, want) {
				t.Errorf("when nothing of it is left: got %v", got)
			}
			if took, want := now.sub(back), min(2*outage, maxCatchUp); took < want || took > want+2*look {
				t.Errorf("a backlog of %v, looked at each %v, took %v; want %v", outage, look, took, want)
			}
		}
	}
}

// A short outage leaves no backlog, unless there was one before.
func TestBacklogOfAShortOutage(t *testing.T) {
	var b backlog
	b.opens(0)
	b.closes(moment(minBacklog))
	if b != (backlog{}) {
		t.Errorf("an outage of %v left %+v", minBacklog, b)
	}
	b.opens(0)
	b.closes(moment(minBacklog + 1))
	b.opens(moment(minBacklog + 2))
	b.closes(moment(minBacklog + 3))
	if b.from != 0 || b.to != moment(minBacklog+3) {
		t.Errorf("a short outage after a longer one left %+v", b)
	}
}

// The rows of the present come first, then the backlog from its end on, then rows that were due
// before the outage.
func TestBacklogIsTakenFromItsEndOn(t *testing.T) {
	const hour, end, now = moment(time.Hour), moment(2 * time.Hour), moment(125 * time.Minute)
	cursor := end.add(-10 * time.Minute) // an hour takes half an hour
	for _, test := range []struct {
		name  string
		first moment // of the due rows, when the breaker closes
		due   moment // the same, when it is looked at
		want  []window
	}{
		{"nothing was due before", hour, hour, []window{{after: end, before: never}, {after: cursor, before: end}}},
		{"something was due before", hour - 1, hour - 1, []window{
			{after: end, before: never}, {after: cursor, before: end}, {after: hour.add(-1 - windowMargin), before: hour},
		}},
		{"a minute of it was due", end.add(-time.Minute), end.add(-time.Minute), []window{
			{after: end, before: never}, {after: end.add(-time.Minute - windowMargin), before: end},
		}},
		{"nothing was due", end + 1, end + 1, []window{{after: end.add(1 - windowMargin), before: never}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b backlog
			b.opens(hour)
			b.closes(end)
			b.windows(test.first, end)
			if got := b.windows(test.due, now); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// The provider answers once, and fails again before the keeper has looked, or while it catches up:
// what is left of the first backlog is part of the second.
func TestBacklogOfAnEarlierOutageIsPartOfTheNext(t *testing.T) {
	for _, test := range []struct {
		name  string
		looks []time.Duration
		again time.Duration // when it fails again
		want  time.Duration // where the backlog of the second begins
	}{
		{"before it was looked at", nil, 13 * time.Minute, time.Minute},
		{"while it catches up", []time.Duration{10 * time.Minute, 12 * time.Minute}, 13 * time.Minute, time.Minute},
		{"when the cursor has passed it", []time.Duration{10 * time.Minute}, time.Hour, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b backlog
			b.opens(moment(time.Minute))
			b.closes(moment(10 * time.Minute))
			for _, at := range test.looks {
				b.windows(0, moment(at))
			}
			b.opens(moment(test.again))
			b.closes(moment(2 * time.Hour))
			b.windows(0, moment(2*time.Hour))
			if b.from != moment(test.want) {
				t.Errorf("it begins at %v, want %v", b.from, test.want)
			}
		})
	}
}
