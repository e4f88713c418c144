package cluster_test

import (
	"fmt"
	"strconv"
	"testing"
)

// galera is a MariaDB Galera cluster of three nodes, each of which takes writes.
type galera struct{ nodes []*node }

// startGalera starts one, and applies the migrations from the first node.
func startGalera(t *testing.T, options ...string) *galera {
	t.Helper()
	g := &galera{}
	network := newNetwork(t)
	for i := range 3 {
		name := fmt.Sprintf("ga%d", i+1)
		env := map[string]string{}
		if i == 0 {
			env["BOOTSTRAP"] = "1"
		}
		n := startNode(t, name, network, galeraImage, env, append([]string{
			fmt.Sprintf("--server-id=%d", i+1), "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
			"--wsrep-on=ON", "--wsrep-provider=/usr/lib/galera/libgalera_smm.so", "--wsrep-sst-method=rsync",
			"--wsrep-cluster-name=ga", "--wsrep-cluster-address=gcomm://ga1,ga2,ga3",
			"--wsrep-node-name=" + name, "--wsrep-node-address=" + name,
		}, options...))
		g.nodes = append(g.nodes, n)
		if i == 0 {
			n.await(t)
			n.do(t, "CREATE DATABASE "+database)
		}
	}
	g.whole(t)
	g.nodes[0].migrate(t, nil)
	return g
}

// whole waits until each node answers and has all three in its view.
func (g *galera) whole(t testing.TB) {
	t.Helper()
	eventually(t, "all nodes are in the cluster", func() bool {
		for _, n := range g.nodes {
			if n.show("wsrep_cluster_size") != "3" || n.show("wsrep_local_state_comment") != "Synced" ||
				n.show("wsrep_ready") != "ON" {
				return false
			}
		}
		return true
	}, func() string {
		var views string
		for _, n := range g.nodes {
			views += fmt.Sprintf("%s: %s of %s, %s\n%s\n", n.name, n.show("wsrep_local_state_comment"),
				n.show("wsrep_cluster_size"), n.show("wsrep_cluster_status"), n.log())
		}
		return views
	})
}

// show returns a value of the node's status, "" outside the majority.
func (n *node) show(name string) string {
	return n.ask("SELECT variable_value FROM information_schema.global_status WHERE variable_name = '" + name + "'")
}

func (g *galera) addrs() (addrs []string) {
	for _, n := range g.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// conflicts counts the transactions that lost to another node's: at their own COMMIT, and before.
func (g *galera) conflicts(t *testing.T) (atCommit, before int) {
	t.Helper()
	for _, n := range g.nodes {
		for name, sum := range map[string]*int{
			"wsrep_local_cert_failures": &atCommit, "wsrep_local_bf_aborts": &before,
		} {
			value, err := strconv.Atoi(n.show(name))
			must(t, err)
			*sum += value
		}
	}
	return atCommit, before
}

// hold has the node apply nothing that other nodes write, until goOn is called.
func (g *galera) hold(t *testing.T, n *node) (goOn func()) {
	t.Helper()
	other := g.nodes[0]
	other.do(t, "CREATE TABLE IF NOT EXISTS "+database+".held (id SERIAL)")
	eventually(t, n.name+" has the table", func() bool {
		return n.ask("SELECT COUNT(*) FROM "+database+".held") != ""
	}, n.log)
	conn, err := n.root.Conn(t.Context())
	must(t, err)
	_, err = conn.ExecContext(t.Context(), "LOCK TABLES "+database+".held READ")
	must(t, err)
	other.do(t, "INSERT INTO "+database+".held VALUES ()")
	return func() {
		_, err := conn.ExecContext(t.Context(), "UNLOCK TABLES")
		must(t, err)
		must(t, conn.Close())
	}
}
