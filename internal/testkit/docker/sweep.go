package docker

import (
	"encoding/json"
	"errors"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Label names the containers and networks of one run of tests, whose value [Sweep] is told.
const Label = "latchkey.test"

// Sweep is a role of a process: it removes the containers and networks with that value of [Label]
// when its orders end. The tests may end in any way, by an interrupt, a time-out's panic or
// SIGKILL, and nothing is left.
func Sweep(orders *json.Decoder, _ *json.Encoder) error {
	// An interrupt reaches the tests too, and their end counts; after it, nobody reads what is
	// written here.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	var value string
	if err := orders.Decode(&value); err != nil {
		return err
	}
	_ = orders.Decode(new(any)) // no order comes before the end
	// Docker may finish a container whose client has left: a second look finds that one.
	err := remove(value)
	time.Sleep(time.Second)
	return errors.Join(err, remove(value))
}

// remove removes what has that label now.
func remove(value string) error {
	filter := "label=" + Label + "=" + value
	containers, err := Command("ps", "--all", "--quiet", "--filter", filter)
	if ids := strings.Fields(containers); err == nil && len(ids) > 0 {
		_, err = Command(append([]string{"rm", "--force", "--volumes"}, ids...)...)
	}
	networks, listErr := Command("network", "ls", "--quiet", "--filter", filter)
	if ids := strings.Fields(networks); listErr == nil && len(ids) > 0 {
		_, listErr = Command(append([]string{"network", "rm"}, ids...)...)
	}
	return errors.Join(err, listErr)
}
