package integration_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/latchkey-go/latchkey/internal/testkit/docker"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// serverReady bounds the start of a container.
const serverReady = 2 * time.Minute

// pullTimeoutEnv is how many seconds a pull of the image may take, by default 300; 0: nothing is
// pulled. .ci/test sets that, since .ci/ensure-server has tried.
const pullTimeoutEnv = "PULL_TIMEOUT"

// image is the container's.
func image() string { return cmp.Or(os.Getenv("MYSQL_IMAGE"), "mysql:9.7") }

// container is a server in a container. A second process of this program keeps it and removes it
// when its stdin ends: the tests may end in any way, by an interrupt, a time-out's panic or
// SIGKILL, and no container is left. (testcontainers' own reaper does the same from a container,
// whose image is one more to get.)
type container struct {
	id     string
	dsn    string
	keeper *exec.Cmd
	stdin  io.Closer
}

// keeperSays is the one line that the keeper writes: the container's id and DSN, or why there is
// none.
type keeperSays struct{ ID, DSN, Absent, Failed string }

func startContainer() (*container, error) {
	keeper, err := process.Command("container")
	if err != nil {
		return nil, err
	}
	keeper.Stderr = os.Stderr
	stdin, err := keeper.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := keeper.Start(); err != nil {
		return nil, err
	}
	c := &container{keeper: keeper, stdin: stdin}
	var said keeperSays
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("the container's keeper: %w", err), c.stop())
	case said.Absent != "":
		return nil, errors.Join(&docker.Absent{Reason: said.Absent}, c.stop())
	case said.Failed != "":
		return nil, errors.Join(errors.New(said.Failed), c.stop())
	}
	c.id, c.dsn = said.ID, said.DSN
	return c, nil
}

// stop returns when the container is gone.
func (c *container) stop() error {
	_ = c.stdin.Close()
	// A keeper that hangs is Docker's fault; Kill makes Wait return.
	giveUp := time.AfterFunc(time.Minute, func() { _ = c.keeper.Process.Kill() })
	defer giveUp.Stop()
	if err := c.keeper.Wait(); err != nil {
		return fmt.Errorf("remove the container: %w", err)
	}
	return nil
}

// keepContainer is the role of the container's keeper: it starts the container, says how to reach
// it, and removes it when its stdin ends.
func keepContainer(orders *json.Decoder, says *json.Encoder) error {
	ctx, end := context.WithCancel(context.Background())
	// An interrupt reaches the tests too, and their end counts; after it, nobody reads what is
	// written here.
	signal.Ignore(os.Interrupt, syscall.SIGPIPE)
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		_ = orders.Decode(new(any)) // no order comes before the end of stdin
		end()
	}()
	go func() {
		<-terminated
		end()
	}()

	docker.Prepare()
	said, remove, err := runContainer(ctx)
	defer remove()
	var absent *docker.Absent
	if errors.As(err, &absent) {
		said.Absent = err.Error()
	} else if err != nil {
		said.Failed = err.Error()
	}
	if err := says.Encode(said); err != nil {
		return err
	}
	<-ctx.Done()
	return remove()
}

// runContainer starts a server. remove removes the container, after an error too, and may be called
// again. When ctx ends, only the wait for the server does: Docker may make a container although its
// client has left.
func runContainer(ctx context.Context) (said keeperSays, remove func() error, err error) {
	remove = func() error { return nil }
	if err := findImage(ctx); err != nil {
		return said, remove, err
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverReady)
	defer cancel()
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.Logger = "root", rand.Text(), "tcp", &mysql.NopLogger{}
	c, err := testcontainers.GenericContainer(bounded, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Image:        image(),
			Env:          map[string]string{"MYSQL_ROOT_PASSWORD": config.Passwd},
			Cmd:          []string{"--max-connections=500"}, // many tests have a pool at the same time
			ExposedPorts: []string{"3306/tcp"},
			WaitingFor:   sqlPing{config, ctx},
		},
		Started: true,
	})
	remove = func() error {
		return testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0))
	}
	if err != nil {
		return said, remove, fmt.Errorf("a container of %s: %w", image(), err)
	}
	return keeperSays{ID: c.GetContainerID(), DSN: config.FormatDSN()}, remove, nil
}

// findImage reports, as a [*docker.Absent], that Docker does not answer or has no image to run.
func findImage(ctx context.Context) error {
	provider, err := docker.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = provider.Close() }()
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv(pullTimeoutEnv), "300"))
	if err != nil {
		return fmt.Errorf("%s=%q is no number of seconds", pullTimeoutEnv,
			os.Getenv(pullTimeoutEnv))
	}
	return docker.FindImage(ctx, provider, image(), time.Duration(seconds)*time.Second,
		pullTimeoutEnv+"=0 says not to pull it")
}

// sqlPing waits for the server to answer over TCP, which is when it is ready whatever its log says.
type sqlPing struct {
	config *mysql.Config   // WaitUntilReady fills in the address
	wanted context.Context // ends when nobody waits for the server any more
}

// WaitUntilReady implements [wait.Strategy].
func (p sqlPing) WaitUntilReady(ctx context.Context, target wait.StrategyTarget) error {
	for {
		err := p.ping(ctx, target)
		if err == nil {
			return nil
		}
		if state, stateErr := target.State(ctx); stateErr == nil && !state.Running {
			return fmt.Errorf("it ended with exit status %d: %s", state.ExitCode,
				lastLog(ctx, target))
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-p.wanted.Done():
			return p.wanted.Err()
		case <-ctx.Done():
			return fmt.Errorf("it did not get ready: %w", err)
		}
	}
}

func (p sqlPing) ping(ctx context.Context, target wait.StrategyTarget) error {
	host, err := target.Host(ctx)
	if err != nil {
		return err
	}
	port, err := target.MappedPort(ctx, "3306/tcp")
	if err != nil {
		return err
	}
	p.config.Addr = net.JoinHostPort(host, port.Port())
	db := open(p.config)
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, "DO 1")
	return err
}

func lastLog(ctx context.Context, target wait.StrategyTarget) string {
	logs, err := target.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = logs.Close() }()
	text, _ := io.ReadAll(logs)
	return strings.TrimSpace(string(text[max(0, len(text)-1000):]))
}
