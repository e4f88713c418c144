// Package docker has what tests need to run servers in containers beside testcontainers-go: whether
// there is a Docker, and an image in it.
package docker

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// Bounds of what Docker does.
const (
	answers  = 15 * time.Second
	commands = 30 * time.Second
)

// Absent says why there is no Docker, or no image in it, which is no failure of the tests.
type Absent struct{ Reason string }

func (a *Absent) Error() string { return a.Reason }

// Prepare has testcontainers work without its reaper and without log lines. The reaper is a
// container whose image is one more to get; the process that starts containers sees to their end.
func Prepare() {
	log.SetDefault(log.NewNoopLogger())
	setUnlessSet("TESTCONTAINERS_RYUK_DISABLED", "true")
	if _, err := os.Stat("/.dockerenv"); err == nil {
		// Here testcontainers would take the bridge's gateway for the host, though Docker may run
		// beside this process.
		setUnlessSet("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	}
}

func setUnlessSet(name, value string) {
	if _, set := os.LookupEnv(name); !set {
		_ = os.Setenv(name, value) // fails for odd names alone
	}
}

// Connect returns testcontainers' provider, or an [*Absent] where Docker does not answer.
func Connect(ctx context.Context) (*testcontainers.DockerProvider, error) {
	type answer struct {
		provider *testcontainers.DockerProvider
		err      error
	}
	answered := make(chan answer, 1)
	go func() { // it takes no context
		provider, err := testcontainers.NewDockerProvider()
		if err == nil {
			err = provider.Health(ctx)
		}
		answered <- answer{provider, err}
	}()
	var docker answer
	select {
	case docker = <-answered:
	case <-time.After(answers):
		docker.err = fmt.Errorf("nothing for %v", answers)
	}
	if docker.err != nil {
		why, _, _ := strings.Cut(docker.err.Error(), "\n")
		return nil, &Absent{fmt.Sprintf("Docker does not answer (%s)", why)}
	}
	return docker.provider, nil
}

// FindImage returns an [*Absent] where the image is not present and cannot be pulled within pull.
// Zero: nothing is pulled, for the reason in why.
func FindImage(
	ctx context.Context, provider *testcontainers.DockerProvider, image string, pull time.Duration, why string,
) error {
	inspecting, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	if _, err := provider.Client().ImageInspect(inspecting, image); err == nil {
		return nil
	}
	if pull <= 0 {
		return &Absent{fmt.Sprintf("the image %s is not present, and %s", image, why)}
	}
	fmt.Fprintf(os.Stderr, "server: pulling %s (at most %v)\n", image, pull)
	pulling, cancel := context.WithTimeout(ctx, pull)
	defer cancel()
	if err := provider.PullImage(pulling, image); err != nil {
		return &Absent{fmt.Sprintf("the image %s is neither present nor can it be pulled (%v)", image, err)}
	}
	return nil
}

// Command returns the output of the docker command, without the blanks around it.
func Command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commands)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
