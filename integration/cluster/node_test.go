package cluster_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"

	"github.com/latchkey-go/latchkey/internal/forward"
	"github.com/latchkey-go/latchkey/internal/testkit/docker"
	"github.com/latchkey-go/latchkey/migrations"
)

// patience bounds every wait.
const patience = 4 * time.Minute

// database is the clients', on every cluster.
const database = "app"

// password is root's, on every server.
const password = "Latchkey1"

// must ends the test after an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until the condition holds, and fails the test if that takes too long. why says
// what the state is then.
func eventually(t testing.TB, what string, holds func() bool, why func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(250 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s\n%s", patience, what, why())
		}
	}
}

// newNetwork returns the name of a network that is the test's.
func newNetwork(t *testing.T) string {
	t.Helper()
	n, err := network.New(t.Context(), network.WithLabels(map[string]string{docker.Label: run}))
	must(t, err)
	t.Cleanup(func() { _, _ = docker.Command("network", "rm", n.Name) })
	return n.Name
}

// A box is a container whose port clients reach at an address that stays: Docker gives it another
// port when it is started again.
type box struct {
	name string
	id   string
	addr string // of the port, from this machine
	port string // in the container: "3306/tcp"
	way  *forward.Forwarder
}

// startBox starts a container whose name in the network is its own.
func startBox(t *testing.T, name, network, port string, request testcontainers.ContainerRequest) *box {
	t.Helper()
	b := &box{name: name, port: port}
	request.ConfigModifier = func(c *container.Config) { c.Hostname = name }
	request.Labels = map[string]string{docker.Label: run}
	request.Networks, request.NetworkAliases = []string{network}, map[string][]string{network: {name}}
	request.ExposedPorts = append(request.ExposedPorts, port)
	// iptables part the nodes; Galera's nodes read each other's address.
	request.HostConfigModifier = func(h *container.HostConfig) { h.CapAdd = append(h.CapAdd, "NET_ADMIN") }
	c, err := testcontainers.GenericContainer(t.Context(), testcontainers.GenericContainerRequest{
		ContainerRequest: request, Started: true,
	})
	if c != nil {
		b.id = c.GetContainerID()
		t.Cleanup(func() { _, _ = docker.Command("rm", "--force", "--volumes", b.id) })
	}
	must(t, err)
	b.way, err = forward.Start(b.published(t, port))
	must(t, err)
	t.Cleanup(b.way.Close)
	b.addr = b.way.Addr()
	return b
}

// published returns the address at which Docker publishes the port now.
func (b *box) published(t *testing.T, port string) string {
	t.Helper()
	first, _, _ := strings.Cut(b.docker(t, "port", b.id, port), "\n")
	_, number, err := net.SplitHostPort(first)
	must(t, err)
	return net.JoinHostPort("127.0.0.1", number)
}

func (b *box) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker.Command(args...)
	must(t, err)
	return out
}

// kill ends the container as a power cut would.
func (b *box) kill(t *testing.T) {
	t.Helper()
	b.docker(t, "kill", b.id)
}

// start starts the container that was killed.
func (b *box) start(t *testing.T) {
	t.Helper()
	b.docker(t, "start", b.id)
	b.way.To(b.published(t, b.port))
}

// freeze stops all of its processes, with their connections open.
func (b *box) freeze(t *testing.T) {
	t.Helper()
	b.docker(t, "pause", b.id)
}

func (b *box) thaw(t *testing.T) {
	t.Helper()
	b.docker(t, "unpause", b.id)
}

// part drops what goes between the container and others; clients reach it as before.
func (b *box) part(t *testing.T, others ...*node) {
	t.Helper()
	var rules []string
	for _, other := range others {
		const address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
		if other.box == b {
			continue
		}
		ip := b.docker(t, "inspect", "--format", address, other.id)
		rules = append(rules, fmt.Sprintf("iptables -A INPUT -s %s -j DROP && iptables -A OUTPUT -d %[1]s -j DROP", ip))
	}
	b.docker(t, "exec", b.id, "sh", "-c", strings.Join(rules, " && "))
}

// heal ends what [box.part] began.
func (b *box) heal(t *testing.T) {
	t.Helper()
	b.docker(t, "exec", b.id, "sh", "-c", "iptables -F INPUT && iptables -F OUTPUT")
}

// A node is a server of a cluster.
type node struct {
	*box
	root *sql.DB
}

func startNode(t *testing.T, name, network, image string, env map[string]string, options []string) *node {
	t.Helper()
	env["MYSQL_ROOT_PASSWORD"] = password
	n := &node{box: startBox(t, name, network, "3306/tcp", testcontainers.ContainerRequest{
		Image: image, Env: env, Cmd: options,
	})}
	n.root = open(t, dsn(n.addr, ""))
	return n
}

// open returns a pool without idle connections, so that none is from before a fault.
func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	must(t, err)
	config.Logger = &mysql.NopLogger{} // servers are killed on purpose
	connector, err := mysql.NewConnector(config)
	must(t, err)
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// dsn is root's at that address. Its time-outs are those that docs/engines.md advises.
func dsn(addr, database string) string {
	return fmt.Sprintf("root:%s@tcp(%s)/%s?timeout=2s&readTimeout=10s&writeTimeout=10s&interpolateParams=true",
		password, addr, database)
}

// answers reports whether clients get an answer.
func (n *node) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := n.root.ExecContext(ctx, "DO 1")
	return err == nil
}

// await waits until clients get an answer.
func (n *node) await(t testing.TB) {
	t.Helper()
	eventually(t, n.name+" answers", n.answers, n.log)
}

// log returns the end of its log.
func (n *node) log() string {
	out, err := docker.Command("logs", "--tail", "20", n.id)
	if err != nil {
		return err.Error()
	}
	return out
}

// do executes statements one after the other.
func (n *node) do(t testing.TB, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := n.root.Conn(ctx)
	must(t, err)
	defer func() { _ = conn.Close() }()
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %s: %v", n.name, statement, err)
		}
	}
}

// try executes statements one after the other, whether or not they succeed.
func (n *node) try(statements ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, statement := range statements {
		_, _ = n.root.ExecContext(ctx, statement)
	}
}

// lock has the server commit nothing, and apply nothing, until unlock is called. Reads go on.
func (n *node) lock(t testing.TB) (unlock func()) {
	t.Helper()
	conn, err := n.root.Conn(t.Context())
	must(t, err)
	if _, err := conn.ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK"); err != nil {
		t.Fatalf("%s: lock: %v", n.name, err)
	}
	return func() { _ = conn.Close() } // the pool keeps no idle connection, and the lock is the connection's
}

// migrate applies the migrations through this node.
func (n *node) migrate(t *testing.T, opts *migrations.Options) {
	t.Helper()
	_, err := migrations.Up(t.Context(), open(t, dsn(n.addr, database)), opts)
	must(t, err)
}

// ask returns the one value of a query, or "" where the node does not answer.
func (n *node) ask(query string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var value sql.NullString
	if err := n.root.QueryRowContext(ctx, query).Scan(&value); err != nil {
		return ""
	}
	return value.String
}

// The transactions that a server of MySQL has, those that it has got from its source, and why there
// are no more.
const (
	executed = "SELECT @@gtid_executed"
	received = "SELECT received_transaction_set FROM performance_schema.replication_connection_status"
	troubles = "SELECT GROUP_CONCAT(last_error_message SEPARATOR '\n') FROM (" +
		"SELECT last_error_message FROM performance_schema.replication_connection_status UNION " +
		"SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker) AS threads"
)

// catchUp waits until the server has applied these transactions.
func (n *node) catchUp(t testing.TB, transactions string) {
	t.Helper()
	eventually(t, n.name+" has applied "+transactions, func() bool {
		return n.ask(fmt.Sprintf("SELECT GTID_SUBSET('%s', @@gtid_executed)", transactions)) == "1"
	}, func() string { return n.ask(executed) + "\n" + n.ask(troubles) })
}

// ahead is by how much [node.setClockAhead] sets a clock.
const ahead = 40 * time.Second

// clockAhead is the environment of a node whose clock can be set. The library that does it (Debian's
// libfaketime) is not where LD_PRELOAD says until then, and ld.so goes on without it.
var clockAhead = map[string]string{
	"LD_PRELOAD": "/clock.so", "FAKETIME": fmt.Sprintf("%+.0fs", ahead.Seconds()), "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}

// setClockAhead kills the server and starts it again with a clock that is ahead.
func (n *node) setClockAhead(t *testing.T) {
	t.Helper()
	n.docker(t, "exec", n.id, "sh", "-c", "ln -s /usr/lib/*/faketime/libfaketimeMT.so.1 /clock.so")
	n.kill(t)
	n.start(t)
	n.await(t)
	now, err := time.Parse(time.DateTime, n.ask("SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:%i:%s')"))
	if err != nil || (time.Until(now)-ahead).Abs() > ahead/2 {
		t.Fatalf("%s: got the time %v, error %v; want it %v ahead", n.name, now, err, ahead)
	}
}
