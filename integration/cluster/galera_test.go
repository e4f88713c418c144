package cluster_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/forward"
	"github.com/latchkey-go/latchkey/migrations"
)

// TestGaleraNodesAgree has clients of all nodes do the same at once. The nodes wait for nothing before
// a read, which is Galera's default.
func TestGaleraNodesAgree(t *testing.T) {
	g := startGalera(t)
	t.Run("Migrate", g.migrateAtOnce)
	t.Run("Race", g.race)
	t.Run("Batches", g.batches)
	t.Run("Behind", g.behind)
}

// migrateAtOnce: programs that migrate at the same time have no lock in common.
func (g *galera) migrateAtOnce(t *testing.T) {
	const name, programs, rounds = "migrated", 6, 5
	g.nodes[0].do(t, "CREATE DATABASE "+name)
	var dbs []*sql.DB
	for i := range programs {
		n := g.nodes[i%len(g.nodes)]
		eventually(t, n.name+" has the database", func() bool {
			return n.ask("SHOW DATABASES LIKE '"+name+"'") == name
		}, n.log)
		dbs = append(dbs, open(t, dsn(n.addr, name)))
	}
	appliers := 0
	for range rounds {
		results, errs := make([]int, programs), make([]error, programs)
		var migrating sync.WaitGroup
		for i, db := range dbs {
			migrating.Go(func() {
				applied, err := migrations.Up(t.Context(), db, nil)
				results[i], errs[i] = len(applied), err
			})
		}
		migrating.Wait()
		for i, err := range errs {
			if err != nil {
				t.Errorf("Up on %s: %v", g.nodes[i%len(g.nodes)].name, err)
			}
			appliers += results[i]
		}
		status, err := migrations.Status(t.Context(), dbs[0], nil)
		if err != nil || !status[len(status)-1].Applied {
			t.Errorf("Status: got %+v, error %v; want all applied", status, err)
		}
		_, err = migrations.Down(t.Context(), dbs[0], nil)
		must(t, err)
	}
	fmt.Printf("Galera, migrations: %d times %d programs at once, no error; %d of them applied something\n",
		rounds, programs, appliers)
}

func (g *galera) race(t *testing.T) {
	g.conflicting(t, "race", func() { race(t, "Galera", 300, g.addrs()...) })
}

func (g *galera) batches(t *testing.T) {
	var stores []*latchkey.Store
	for range 2 {
		for _, n := range g.nodes {
			stores = append(stores, newStore(t, n.addr))
		}
	}
	g.conflicting(t, "overlapping batches", func() { overlap(t, "Galera", stores...) })
}

// conflicting prints how many transactions lost to another node's meanwhile, and fails the test if
// there was none, so that nothing was raced for.
func (g *galera) conflicting(t *testing.T, name string, do func()) {
	t.Helper()
	atCommit, before := g.conflicts(t)
	do()
	atCommitNow, beforeNow := g.conflicts(t)
	atCommit, before = atCommitNow-atCommit, beforeNow-before
	fmt.Printf("Galera, %s: %d transactions lost at their COMMIT and %d before it; no caller saw one\n",
		name, atCommit, before)
	if atCommit+before == 0 {
		t.Errorf("%s: no transaction lost to another", name)
	}
}

// behind makes calls on a node that has not applied the claim of another node. With
// wsrep_sync_wait=1 the node answers when it has applied it, since every statement of the store is a
// read outside of a transaction or follows the beginning of one. Without that setting a read is
// stale, and a claim meets a conflict.
func (g *galera) behind(t *testing.T) {
	first, second := newStore(t, g.nodes[0].addr), g.nodes[1]
	waiting, stale := newStore(t, second.addr, "wsrep_sync_wait=1"), newStore(t, second.addr)
	for name, call := range behindCalls {
		c, goOn := g.claimUnseen(t, name, first, second)
		done := make(chan error, 1)
		go func() { done <- call(t.Context(), waiting, c) }()
		eventually(t, name+" waits", func() bool { return second.ask(atWork) == "1" || len(done) > 0 }, second.log)
		goOn()
		if err := <-done; err != nil {
			t.Errorf("%s on a node that was behind, wsrep_sync_wait=1: %v", name, err)
		}
	}

	c, goOn := g.claimUnseen(t, "stale", first, second)
	if got, err := stale.Get(t.Context(), c.Key); err != nil || got.Version >= c.Version {
		t.Errorf("Get on a node that is behind: got version %d, error %v; want one before %d",
			got.Version, err, c.Version)
	}
	g.conflicting(t, "claim on a node that is behind", func() {
		done := make(chan error, 1)
		go func() { done <- behindCalls["Claim"](t.Context(), stale, c) }()
		eventually(t, "the claim is at its COMMIT", func() bool {
			return second.ask(atWork+" AND info LIKE 'COMMIT%'") == "1"
		}, second.log)
		goOn()
		if err := <-done; err != nil {
			t.Errorf("Claim on a node that was behind, wsrep_sync_wait=0: %v", err)
		}
	})
}

// behindCalls are calls that need the claim c, which another node has written.
var behindCalls = map[string]func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error{
	"Get": func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error {
		got, err := s.Get(ctx, c.Key)
		return isHeld(got, c, err)
	},
	"Claim": func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error {
		got, err := s.Claim(ctx, c.Key, newClaim("second"))
		return isHeld(got, c, err)
	},
	"ClaimAll": func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error {
		found, err := s.ClaimAll(ctx, []credentials.Key{c.Key}, newClaim("second"))
		if err != nil {
			return err
		}
		return isHeld(found[0].Credential, c, found[0].Err)
	},
	"Save": func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error {
		return s.Save(ctx, c.Fence(), credentials.Renewal{Grant: credentials.Grant{
			AccessToken: credentials.NewSecret("at"), RefreshToken: credentials.NewSecret("rt"), Lifetime: time.Hour,
		}, DueIn: time.Hour})
	},
	"Fail": func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error {
		return s.Fail(ctx, c.Fence(), credentials.Failure{Class: credentials.ClassTransient, RetryIn: time.Hour})
	},
	"ClaimDue": func(ctx context.Context, s *latchkey.Store, c credentials.Credential) error {
		batch := credentials.Batch{Claim: newClaim("second"), Service: c.Key.Service, Limit: 10}
		claimed, err := s.ClaimDue(ctx, batch)
		if err == nil && len(claimed) > 0 {
			err = fmt.Errorf("claimed %v", claimed[0].Key)
		}
		return err
	},
}

func newClaim(holder string) credentials.Claim {
	return credentials.Claim{ID: rand.Text(), Holder: holder, Lease: lease}
}

// isHeld returns an error unless the credential bears the lease that was taken before.
func isHeld(c, before credentials.Credential, err error) error {
	if err == nil && c.Lease.ID != before.Lease.ID {
		err = fmt.Errorf("got version %d and the lease of %q, want %d", c.Version, c.Lease.Holder, before.Version)
	}
	return err
}

// claimUnseen puts a credential of a service of its own, and claims it by way of the first store when
// the second node applies nothing any more. goOn ends that.
func (g *galera) claimUnseen(
	t *testing.T, service string, first *latchkey.Store, second *node,
) (c credentials.Credential, goOn func()) {
	t.Helper()
	key := credentials.Key{Service: service, Account: "alice"}
	must(t, first.Put(t.Context(), key, credentials.Grant{RefreshToken: credentials.NewSecret("rt")}))
	store := newStore(t, second.addr)
	eventually(t, second.name+" has "+service, func() bool {
		_, err := store.Get(t.Context(), key)
		return err == nil
	}, second.log)
	goOn = g.hold(t, second)
	c, err := first.Claim(t.Context(), key, newClaim("first"))
	must(t, err)
	return c, goOn
}

// atWork counts the sessions that execute a statement of the store's.
const atWork = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '" + database + "' " +
	"AND command = 'Query' AND info NOT LIKE 'SET %'"

const (
	// absence is for how long a node is not there: the others go on without it after five seconds.
	absence = 10 * time.Second

	// lease is longer than that: a process on such a node may have claims whose results it saves
	// when the node is back.
	lease = 2 * time.Minute
)

// TestGaleraNodesFail has a process on each node, and one behind a proxy, which leads to the node
// that is about to fail, and to another as soon as it fails.
func TestGaleraNodesFail(t *testing.T) {
	g := startGalera(t, "--wsrep-sync-wait=1")
	proxy, err := forward.Start(g.nodes[0].addr)
	must(t, err)
	t.Cleanup(proxy.Close)
	l := startLoad(t, "Galera", lease, append(g.addrs(), proxy.Addr())...)
	l.phase(t, "nothing fails", func() {})
	for i, fault := range []struct {
		name       string
		begin, end func(*node)
	}{
		{"the second node is killed", func(n *node) { n.kill(t) }, func(n *node) { n.start(t) }},
		{"the third node is frozen", func(n *node) { n.freeze(t) }, func(n *node) { n.thaw(t) }},
		{"the first node is parted", func(n *node) { n.part(t, g.nodes...) }, func(n *node) { n.heal(t) }},
	} {
		n, next := g.nodes[(i+1)%3], g.nodes[(i+2)%3]
		lead(proxy, n)
		l.phase(t, fault.name, func() {
			fault.begin(n)
			lead(proxy, next)
			time.Sleep(absence) // an outage
			fault.end(n)
			g.whole(t)
		})
	}
	l.end(t, g.nodes[0].addr)
}

// lead has the proxy send its clients to that node, and ends their connections to another.
func lead(proxy *forward.Forwarder, n *node) {
	proxy.To(n.addr)
	proxy.Refuse()
	proxy.Heal()
}
