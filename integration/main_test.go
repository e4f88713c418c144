package integration_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/internal/engine"
	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
	"github.com/latchkey-go/latchkey/internal/testkit/docker"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// servers are what the tests run on: the reference server and, beside a container, a MariaDB.
var servers []*server

func TestMain(m *testing.M) {
	if worker.Started() {
		if err := worker.Run(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	process.Play(roles)
	flag.Parse()
	os.Exit(runOnServers(m))
}

func runOnServers(m *testing.M) int {
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run()
	}
	raiseParallel()
	stop, err := chooseServers()
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		return 1
	}
	return m.Run()
}

// raiseParallel lets more tests run at once than there are processors, unless the command line says
// how many: they wait for the servers' disks and for leases to end.
func raiseParallel() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "8") // the flag exists, and 8 is a number
	}
}

// chooseServers fills in servers and says which they are. stop ends those that were started, after
// an error too. A server that is not stopped, because the program was killed, ends by itself.
func chooseServers() (stop func(), err error) {
	var stops []func() error
	stop = func() { stopServers(stops) }
	use := func(dsn, where string) error {
		s, err := newServer(dsn)
		if err == nil {
			fmt.Printf("server: %s (%s)\n", s.version, where)
			servers = append(servers, s)
		}
		return err
	}
	private := func(program string) error {
		s, err := localmysql.Start(context.Background(), &localmysql.Options{Program: program})
		if err != nil {
			return err
		}
		stops = append(stops, s.Stop)
		return use(s.DSN(""), "private, "+program)
	}

	required := cmp.Or(os.Getenv("REQUIRE_DOCKER"), "0") != "0"
	if dsn := os.Getenv("TEST_MYSQL_DSN"); dsn != "" && !required {
		return stop, use(dsn, "TEST_MYSQL_DSN")
	}
	container, err := startContainer()
	var absent *docker.Absent
	switch {
	case err == nil:
		stops = append(stops, container.stop)
		if err := use(container.dsn, "docker, "+image()); err != nil {
			return stop, err
		}
		program := findMariaDB()
		if program == "" || servers[0].mariadb {
			fmt.Println("server: no mariadbd to run beside it; the tests run on this one alone")
			return stop, nil
		}
		return stop, private(program)
	case !errors.As(err, &absent):
		return stop, err
	case required:
		return stop, fmt.Errorf("REQUIRE_DOCKER is set, but %w", err)
	}
	_ = os.Setenv(pullTimeoutEnv, "0") // another container will not find the image either
	program, findErr := localmysql.Find()
	if findErr != nil {
		return stop, fmt.Errorf("%w, TEST_MYSQL_DSN names no server, and neither mysqld nor mariadbd is installed "+
			"(Debian, Ubuntu: apt-get install mariadb-server-core)", err)
	}
	if err := private(program); err != nil {
		return stop, err
	}
	fmt.Printf("server: not in a container, since %v\n", err)
	return stop, nil
}

func stopServers(stops []func() error) {
	for _, stop := range stops {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
		}
	}
}

// findMariaDB returns the path of an installed mariadbd, or "".
func findMariaDB() string {
	for _, name := range []string{"mariadbd", "/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd", "/usr/libexec/mariadbd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// newServer connects to the server of that DSN and asks for its version.
func newServer(dsn string) (*server, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("the DSN cannot be read; it looks like user:password@tcp(host:3306)/")
	}
	config.DBName, config.InterpolateParams, config.ParseTime = "", false, false
	config.Logger = &mysql.NopLogger{}
	s := &server{config: config, admin: open(config)}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if s.version, err = engine.Name(ctx, s.admin); err != nil {
		return nil, fmt.Errorf("the server at %s: %w", config.Addr, err)
	}
	s.mariadb = s.product() == "MariaDB"
	return s, nil
}
