package cluster_test

import (
	"testing"
	"time"
)

// away is for how long a node is frozen or parted: the group expels it after some ten seconds.
const away = 15 * time.Second

// TestGroupReplicationOnePrimary has the processes on a Router, as its users have them: what befalls
// the primary befalls all of them at once, and ends when the Router has found the next primary.
func TestGroupReplicationOnePrimary(t *testing.T) {
	g := startGroup(t, false)
	r := g.startRouter(t)
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
