package cluster_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/forward"
)

// outage is for how long there is no source, or no replica.
const outage = 6 * time.Second

// pair is a source and its replica. Clients reach the source through a forwarder, which leads to the
// replica once that is promoted.
type pair struct {
	source, replica *node
	way             *forward.Forwarder
	ids             int // server ids that were given
}

func startPair(t *testing.T) *pair {
	t.Helper()
	network := newNetwork(t)
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, startNode(t, fmt.Sprintf("db%d", i+1), network, mysqlImage, map[string]string{}, []string{
			fmt.Sprintf("--server-id=%d", i+1), "--gtid-mode=ON", "--enforce-gtid-consistency=ON",
			"--plugin-load-add=semisync_source.so", "--plugin-load-add=semisync_replica.so",
		}))
	}
	p := &pair{source: nodes[0], replica: nodes[1], ids: len(nodes)}
	for _, n := range nodes {
		n.await(t)
	}
	p.source.do(t, "CREATE DATABASE "+database)
	p.source.migrate(t, nil)
	p.follow(t)
	way, err := forward.Start(p.source.addr)
	must(t, err)
	t.Cleanup(way.Close)
	p.way = way
	return p
}

// follow makes the replica one of the source, whose binary logs have everything from the beginning.
// A replica leaves out what was written under its own server id, which it gets anew for that.
func (p *pair) follow(t *testing.T) {
	t.Helper()
	p.ids++
	p.replica.do(t, "DROP DATABASE IF EXISTS "+database, "RESET BINARY LOGS AND GTIDS",
		fmt.Sprintf("SET GLOBAL server_id = %d", p.ids), "SET GLOBAL super_read_only = ON",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_USER = 'root', SOURCE_PASSWORD = '%s', "+
			"SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, GET_SOURCE_PUBLIC_KEY = 1", p.source.name, password),
		"START REPLICA")
	p.replica.catchUp(t, p.source.ask(executed))
}

// promote has clients go to the replica of a source that is gone.
func (p *pair) promote(t *testing.T) {
	t.Helper()
	p.replica.do(t, "STOP REPLICA IO_THREAD")
	p.replica.catchUp(t, p.replica.ask(received))
	p.replica.do(t, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
	p.way.To(p.replica.addr)
	p.source, p.replica = p.replica, p.source
}

// rejoin starts the source of before, which has been killed, as the replica of the one of now.
func (p *pair) rejoin(t *testing.T) {
	t.Helper()
	p.replica.start(t)
	p.replica.await(t)
	p.follow(t)
}

// semiSynchronous has no commit be answered before the replica has it, however long that takes.
func (p *pair) semiSynchronous(t *testing.T) {
	t.Helper()
	p.replica.do(t, "SET GLOBAL rpl_semi_sync_replica_enabled = ON", "STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD")
	p.source.do(t, "SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC",
		"SET GLOBAL rpl_semi_sync_source_timeout = 4294967295", "SET GLOBAL rpl_semi_sync_source_enabled = ON")
	eventually(t, "the source waits for the replica", func() bool {
		return p.source.ask("SELECT variable_value FROM performance_schema.global_status "+
			"WHERE variable_name = 'Rpl_semi_sync_source_clients'") == "1"
	}, p.source.log)
}

// still does something while the source commits nothing and no exchange is under way, as soon as
// that holds.
func (p *pair) still(t *testing.T, holds func() bool, do func()) {
	t.Helper()
	eventually(t, "no exchange is under way", func() bool {
		unlock := p.source.lock(t) // which waits for the commits under way
		defer unlock()
		if p.source.ask("SELECT COUNT(*) FROM "+database+".credentials WHERE lease_id <> ''") == "0" && holds() {
			do()
			return true
		}
		return false
	}, p.source.log)
}

// unsaved returns the accounts whose last saves the replica lacks.
func (p *pair) unsaved(t *testing.T, l *load) []string {
	t.Helper()
	var accounts []string
	source, replica := l.rows(t, p.source.addr), l.rows(t, p.replica.addr)
	for _, account := range l.accounts {
		if source[account].TokenVersion != replica[account].TokenVersion {
			accounts = append(accounts, account)
		}
	}
	return accounts
}

// TestReplicaPromoted has the processes on the source, and on the replica once that is promoted.
func TestReplicaPromoted(t *testing.T) {
	p := startPair(t)
	addr := p.way.Addr()
	l := startLoad(t, "source and replica", 0, addr, addr, addr, addr)
	l.phase(t, "nothing fails", func() {})
	p.promoteWithoutTheLast(t, l)

	p.rejoin(t)
	l.phase(t, "promoted with every transaction", func() {
		p.way.Cut()
		p.source.do(t, "SET GLOBAL super_read_only = ON") // which waits for the commits under way
		p.replica.catchUp(t, p.source.ask(executed))
		p.source.kill(t)
		time.Sleep(outage)
		p.promote(t)
		p.way.Heal()
	})

	p.rejoin(t)
	p.semiSynchronous(t)
	l.phase(t, "semi-synchronous, promoted after the replica was away", func() {
		p.replica.do(t, "STOP REPLICA IO_THREAD")
		time.Sleep(outage)
		p.source.kill(t)
		p.promote(t)
	})
	l.end(t, addr)
}

// promoteWithoutTheLast promotes a replica that lacks the source's last transactions. Those grants
// are lost whose save it lacks, since the refresh token that it has was used up, and no others. The
// callers are told, and get tokens when the grants have been authorized again.
func (p *pair) promoteWithoutTheLast(t *testing.T, l *load) {
	t.Helper()
	addr := p.way.Addr()
	var unsaved []string
	c := l.during(t, "promoted without the last transactions", func() {
		p.still(t, func() bool { return true }, func() { p.replica.do(t, "STOP REPLICA IO_THREAD") })
		p.still(t, func() bool {
			unsaved = p.unsaved(t, l)
			return len(unsaved) >= accounts/4
		}, func() { p.source.kill(t) })
		p.promote(t)
	})
	if !slices.Equal(c.lost, unsaved) || c.exchanges != c.tokens+len(unsaved) || c.reused != len(unsaved) {
		t.Errorf("got %d exchanges of %d refresh tokens, %d reused, grants lost %v; want those whose saves are, %v",
			c.exchanges, c.tokens, c.reused, c.lost, unsaved)
	}
	manager, err := newManager(open(t, dsn(addr, database)), l.tokenURL, &credentials.Options{})
	must(t, err)
	for account, row := range l.rows(t, addr) {
		lost := slices.Contains(unsaved, account)
		if dead := row.Failure.Class == credentials.ClassDead; dead != lost {
			t.Errorf("%s: got failure %+v; want it dead: %v", account, row.Failure, lost)
		}
		if !lost {
			continue
		}
		var failed *credentials.RefreshError
		eventually(t, account+": a caller learns that the grant is dead", func() bool {
			_, err := manager.Token(t.Context(), credentials.Key{Service: service, Account: account})
			return errors.Is(err, credentials.ErrGrantDead) && errors.As(err, &failed)
		}, p.source.log)
		if failed.Key.Account != account || failed.Code != "invalid_grant" {
			t.Errorf("%s: got the error %v; want one that names the account and invalid_grant", account, failed)
		}
	}
	must(t, manager.Close(t.Context()))
	l.phase(t, "the lost grants authorized again", func() { l.authorize(t, addr, unsaved...) })
}
