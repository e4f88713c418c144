package cluster_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/testcontainers/testcontainers-go"

	"github.com/latchkey-go/latchkey/migrations"
)

// group is a Group Replication of three nodes.
type group struct {
	network string
	nodes   []*node
}

const groupName = "6a7e0000-0000-4000-8000-000000000001"

// startGroup starts one with one primary, or with three, and applies the migrations from the first
// node. The clock of the last of three primaries can be set.
func startGroup(t *testing.T, several bool) *group {
	t.Helper()
	g := &group{network: newNetwork(t)}
	for i := range 3 {
		name := fmt.Sprintf("gr%d", i+1)
		options := []string{
			fmt.Sprintf("--server-id=%d", i+1), "--report-host=" + name,
			"--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--super-read-only=ON",
			"--plugin-load-add=group_replication.so",
			"--loose-group-replication-group-name=" + groupName,
			"--loose-group-replication-local-address=" + name + ":33061",
			"--loose-group-replication-group-seeds=gr1:33061,gr2:33061,gr3:33061",
			"--loose-group-replication-start-on-boot=OFF",
		}
		if several {
			options = append(options, "--loose-group-replication-single-primary-mode=OFF",
				"--loose-group-replication-enforce-update-everywhere-checks=ON")
		}
		env := make(map[string]string)
		if several && i == 2 {
			maps.Copy(env, clockAhead)
		}
		g.nodes = append(g.nodes, startNode(t, name, g.network, mysqlImage, env, options))
	}
	for i, n := range g.nodes {
		n.await(t)
		n.do(t, "RESET BINARY LOGS AND GTIDS", // a joiner must have nothing of its own
			fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_USER = 'root', SOURCE_PASSWORD = '%s' "+
				"FOR CHANNEL 'group_replication_recovery'", password))
		if i == 0 {
			n.do(t, "SET GLOBAL group_replication_bootstrap_group = ON", "START GROUP_REPLICATION",
				"SET GLOBAL group_replication_bootstrap_group = OFF", "CREATE DATABASE "+database)
		}
	}
	var joining sync.WaitGroup
	for _, n := range g.nodes[1:] {
		joining.Go(func() { n.try("START GROUP_REPLICATION") })
	}
	joining.Wait()
	g.whole(t)
	g.nodes[0].migrate(t, &migrations.Options{OnlyCaller: several})
	for _, n := range g.nodes[1:] {
		n.catchUp(t, g.nodes[0].ask(executed))
	}
	return g
}

// addrs returns the addresses of its nodes.
func (g *group) addrs() []string {
	var addrs []string
	for _, n := range g.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// Views of the group, as a node has them.
const (
	members   = "performance_schema.replication_group_members"
	ownState  = "SELECT member_state FROM " + members + " WHERE member_id = @@server_uuid"
	isPrimary = "SELECT member_role = 'PRIMARY' AND member_state = 'ONLINE' FROM " + members +
		" WHERE member_id = @@server_uuid"
	view = "SELECT GROUP_CONCAT(CONCAT(member_host, ' ', member_state, ' ', member_role) " +
		"ORDER BY member_host SEPARATOR ', ') FROM " + members
)

// whole waits until all nodes are in one view, and has those join again that have given up.
func (g *group) whole(t testing.TB) {
	t.Helper()
	eventually(t, "all nodes are in the group", func() bool {
		first := g.nodes[0].ask(view)
		whole := strings.Count(first, " ONLINE ") == len(g.nodes)
		for _, n := range g.nodes {
			whole = whole && n.ask(view) == first
			switch n.ask(ownState) {
			case "OFFLINE", "ERROR":
				n.try("STOP GROUP_REPLICATION", "START GROUP_REPLICATION", "SET GLOBAL offline_mode = OFF")
			}
		}
		return whole
	}, func() string {
		var views strings.Builder
		for _, n := range g.nodes {
			fmt.Fprintf(&views, "%s sees %s\n", n.name, n.ask(view))
		}
		return views.String()
	})
}

// primary returns the primary of the whole group with one primary.
func (g *group) primary(t testing.TB) *node {
	t.Helper()
	for _, n := range g.nodes {
		if n.ask(isPrimary) == "1" {
			return n
		}
	}
	t.Fatal("no node is the primary")
	return nil
}

// router is the group's MySQL Router.
type router struct {
	primary string // the address that leads to the primary
	split   string // the address that sends reads to the others
}

// routerMetadata is as much of an InnoDB Cluster's as the Router reads and writes, which MySQL Shell
// makes; Debian has no package of that.
var routerMetadata = []string{
	"CREATE DATABASE mysql_innodb_cluster_metadata",
	"USE mysql_innodb_cluster_metadata",
	"CREATE VIEW schema_version (major, minor, patch) AS SELECT 2, 0, 0",
	`CREATE TABLE routers (router_id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
		router_name VARCHAR(265) NOT NULL, product_name VARCHAR(128) NOT NULL, address VARCHAR(256) NOT NULL,
		version VARCHAR(12), last_check_in TIMESTAMP NULL, attributes JSON, cluster_id CHAR(36), options JSON,
		UNIQUE (address, router_name))`,
	`CREATE TABLE v2_clusters (cluster_id CHAR(36) PRIMARY KEY, cluster_name VARCHAR(63),
		cluster_type CHAR(2), primary_mode CHAR(2), group_name CHAR(36), attributes JSON, options JSON,
		router_options JSON)`,
	`CREATE TABLE v2_instances (instance_id INT UNSIGNED PRIMARY KEY, cluster_id CHAR(36),
		label VARCHAR(255), mysql_server_uuid CHAR(36), address VARCHAR(255), endpoint VARCHAR(255),
		xendpoint VARCHAR(255), attributes JSON)`,
	"CREATE VIEW v2_routers AS SELECT * FROM routers",
	"CREATE VIEW v2_gr_clusters AS SELECT * FROM v2_clusters",
	"CREATE VIEW v2_ar_clusters AS SELECT * FROM v2_clusters WHERE FALSE",
	`CREATE VIEW v2_this_instance AS SELECT cluster_id, instance_id, cluster_name, cluster_type
		FROM v2_instances JOIN v2_clusters USING (cluster_id)
		WHERE mysql_server_uuid = (SELECT CONVERT(variable_value USING utf8mb4) COLLATE utf8mb4_0900_ai_ci
			FROM performance_schema.global_variables WHERE variable_name = 'server_uuid')`,
	"INSERT INTO v2_clusters VALUES ('" + groupName + "', 'app', 'gr', 'pm', '" + groupName + "', '{}', '{}', '{}')",
	`INSERT INTO v2_instances SELECT RIGHT(member_host, 1), '` + groupName + `', member_host, member_id,
		CONCAT(member_host, ':3306'), CONCAT(member_host, ':3306'), NULL, '{}' FROM ` + members,
}

// startRouter starts the Router of a group with one primary. The Router makes its own configuration
// as its manual says (MySQL Router, "Bootstrapping").
func (g *group) startRouter(t *testing.T) router {
	t.Helper()
	primary := g.primary(t)
	primary.do(t, routerMetadata...)
	script := fmt.Sprintf(`echo %s | mysqlrouter --bootstrap root@%s:3306 --report-host=127.0.0.1 \
		--directory /router --user=root --force --disable-rest --conf-skip-x-protocol \
		--conf-set-option=DEFAULT.logging_folder= && exec mysqlrouter -c /router/mysqlrouter.conf`,
		password, primary.name)
	b := startBox(t, "router", g.network, "6446/tcp", testcontainers.ContainerRequest{
		Image: mysqlImage, Entrypoint: []string{"sh", "-c", script}, ExposedPorts: []string{"6450/tcp"},
	})
	r := router{b.addr, b.published(t, "6450/tcp")}
	for _, addr := range []string{r.primary, r.split} {
		(&node{box: b, root: open(t, dsn(addr, ""))}).await(t)
	}
	return r
}
