package cluster_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/storm/worker"
	"github.com/latchkey-go/latchkey/internal/testkit/docker"
	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

// The images, which .ci/cluster-images builds.
const (
	mysqlImage  = "latchkey/mysql-cluster:9.7"
	galeraImage = "latchkey/galera:10.11"
)

// run is the value of [docker.Label] for the containers and networks of this run.
var run = rand.Text()

// roles are the processes that tests need.
var roles = map[string]process.Role{
	"callers":  callOn,
	"claimant": claimOn,
	"sweeper":  docker.Sweep,
}

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
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	os.Exit(runInDocker(m))
}

// runElsewhere has the tests of an engine be run only if a variable of the environment names one,
// says which are not run, and returns the names of the others.
func runElsewhere() (tests []string) {
	absent := []string{flag.Lookup("test.skip").Value.String()}
	for _, one := range []struct {
		engine, tests string
		variables     []string
	}{
		{"Vitess", "TestVitess", []string{vitessEnv, vitessShardedEnv}},
		{"Vitess with shards", "TestVitessOneShard", []string{vitessShardedEnv}},
		{"TiDB", "TestTiDB", []string{tidbEnv}},
	} {
		names := strings.Join(one.variables, " or ")
		if slices.ContainsFunc(one.variables, func(name string) bool { return os.Getenv(name) != "" }) {
			fmt.Printf("cluster: %s, by %s\n", one.engine, names)
			tests = append(tests, one.tests)
			continue
		}
		fmt.Printf("cluster: %s is not run, since no %s is set\n", one.engine, names)
		absent = append(absent, one.tests)
	}
	absent = slices.DeleteFunc(absent, func(pattern string) bool { return pattern == "" })
	_ = flag.Set("test.skip", strings.Join(absent, "|")) // the flag exists, and takes any names
	return tests
}

// runInDocker runs the tests if there are a Docker and the images, and says it if there are not.
func runInDocker(m *testing.M) int {
	elsewhere := runElsewhere()
	docker.Prepare()
	err := findImages(mysqlImage, galeraImage)
	var absent *docker.Absent
	switch {
	case errors.As(err, &absent) && cmp.Or(os.Getenv("REQUIRE_DOCKER"), "0") == "0":
		fmt.Printf("cluster: no test is run that needs a container, since %v\n", err)
		if len(elsewhere) == 0 {
			return 0
		}
		_ = flag.Set("test.run", strings.Join(elsewhere, "|")) // the flag exists, and takes any names
		return m.Run()
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	fmt.Printf("cluster: in Docker, %s and %s\n", mysqlImage, galeraImage)
	sweep, err := startSweeper()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	status := m.Run()
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		status = max(status, 1)
	}
	return status
}

func findImages(images ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	provider, err := docker.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = provider.Close() }()
	for _, image := range slices.Compact(images) {
		err := docker.FindImage(ctx, provider, image, 0, ".ci/cluster-images has not built it")
		if err != nil {
			return err
		}
	}
	return nil
}

// startSweeper starts the process that removes what the tests leave, however they end. The function
// that it returns waits until all is removed.
func startSweeper() (sweep func() error, err error) {
	sweeper, err := process.Command("sweeper")
	if err != nil {
		return nil, err
	}
	sweeper.Stderr = os.Stderr
	orders, err := sweeper.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := sweeper.Start(); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(orders).Encode(run); err != nil {
		return nil, err
	}
	return func() error {
		_ = orders.Close()
		return sweeper.Wait()
	}, nil
}
