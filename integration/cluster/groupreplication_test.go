package cluster_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// away is for how long a node is frozen or parted: the group expels it after some ten seconds.
const away = 15 * time.Second

// fails has a node be killed, for so long, then frozen, then parted from the others: a phase each,
// at whose end the group is whole again.
func (g *group) fails(t *testing.T, l *load, what string, victim func() *node, killed time.Duration) {
	t.Helper()
	for _, fault := range []struct {
		name       string
		lasts      time.Duration
		begin, end func(*node)
	}{
		{"killed", killed, func(n *node) { n.kill(t) }, func(n *node) { n.start(t) }},
		{"frozen", away, func(n *node) { n.freeze(t) }, func(n *node) { n.thaw(t) }},
		{"parted", away, func(n *node) { n.part(t, g.nodes...) }, func(n *node) { n.heal(t) }},
	} {
		l.phase(t, what+" is "+fault.name, func() {
			n := victim()
			fault.begin(n)
			time.Sleep(fault.lasts) // an outage
			fault.end(n)
			g.whole(t)
		})
	}
}

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
	g.fails(t, l, "the primary", func() *node { return g.primary(t) }, away)
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
	g.fails(t, l, "a node", func() *node { return g.nodes[1] }, outage)
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
