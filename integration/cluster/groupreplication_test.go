package cluster_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// away is for how long a node is frozen or parted: the group expels it after some ten seconds.
const away = 15 * time.Second

// TestGroupReplicationOnePrimary has the processes on a Router, as its users have them: what befalls
// the primary befalls all of them at once, and ends when the Router has found the next primary.
func TestGroupReplicationOnePrimary(t *testing.T) {
	g := startGroup(t, false)
	r := g.startRouter(t)
	splitsReads(t, g, r)
	l := startLoad(t, "Group Replication, Router", 0, r.primary, r.primary, r.primary, r.primary)
	l.phase(t, "nothing fails", func() {})
	l.phase(t, "the primary is switched", func() {
		next := g.nodes[0]
		if g.primary(t) == next {
			next = g.nodes[1]
		}
		g.primary(t).do(t, "SELECT group_replication_set_as_primary('"+next.ask("SELECT @@server_uuid")+"')")
	})
	l.phase(t, "the primary is killed", func() {
		primary := g.primary(t)
		primary.kill(t)
		time.Sleep(away) // an outage
		primary.start(t)
		g.whole(t)
	})
	l.phase(t, "the primary is frozen", func() {
		primary := g.primary(t)
		primary.freeze(t)
		time.Sleep(away) // an outage
		primary.thaw(t)
		g.whole(t)
	})
	l.phase(t, "the primary is parted", func() {
		primary := g.primary(t)
		primary.part(t, g.nodes...)
		time.Sleep(away) // an outage
		primary.heal(t)
		g.whole(t)
	})
	l.end(t, r.primary)
}

// TestGroupReplicationThreePrimaries has a process on each node. One on a node that is away can
// neither save nor look, and its lease outlasts the outage.
func TestGroupReplicationThreePrimaries(t *testing.T) {
	g := startGroup(t, true)
	addrs := g.addrs()
	const engine = "Group Replication, three primaries"
	race(t, engine, 100, addrs...)
	l := startLoad(t, engine, 2*time.Minute, addrs...)
	l.phase(t, "nothing fails", func() {})
	l.phase(t, "a node is killed", func() {
		g.nodes[1].kill(t)
		time.Sleep(outage)
		g.nodes[1].start(t)
		g.whole(t)
	})
	l.phase(t, "a node is frozen", func() {
		g.nodes[1].freeze(t)
		time.Sleep(away) // an outage
		g.nodes[1].thaw(t)
		g.whole(t)
	})
	l.phase(t, "a node is parted", func() {
		g.nodes[1].part(t, g.nodes...)
		time.Sleep(away) // an outage
		g.nodes[1].heal(t)
		g.whole(t)
	})
	l.phase(t, "a node comes back with its clock ahead", func() {
		g.nodes[2].setClockAhead(t)
		g.whole(t)
		time.Sleep(lifetime) // until the tokens from before have ended
	})
	l.end(t, addrs[0])
}

// TestGroupReplicationReadWriteSplit has the processes on the Router's port that sends statements
// outside transactions which only read to the secondaries: reads are behind, writes are not.
func TestGroupReplicationReadWriteSplit(t *testing.T) {
	g := startGroup(t, false)
	split := g.startRouter(t).split
	runStorm(t, "read/write splitting", storm.Config{DSN: dsn(split, database), Rounds: 10})
	l := startLoad(t, "Group Replication, read/write splitting", 0, split, split, split, split)
	l.phase(t, "nothing fails", func() {})
	const behind = 12 * time.Second
	c := l.phase(t, "the secondaries are 12 s behind", func() {
		for _, n := range g.nodes {
			if n != g.primary(t) {
				defer n.lock(t)()
			}
		}
		time.Sleep(behind) // an outage
	})
	if len(c.failed) > 0 || c.gap >= behind {
		t.Errorf("got errors %v and a gap of %v; want none, and waiters that learn of a result before the secondaries",
			c.failed, c.gap)
	}
	l.phase(t, "the primary is killed", func() {
		primary := g.primary(t)
		primary.kill(t)
		time.Sleep(away) // an outage
		primary.start(t)
		g.whole(t)
	})
	l.end(t, split)
}
