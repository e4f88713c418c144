package process_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/testkit/process"
)

func TestMain(m *testing.M) {
	process.Play(map[string]process.Role{"echo": echo})
	os.Exit(m.Run())
}

// echo says every order as it is.
func echo(orders *json.Decoder, says *json.Encoder) error {
	for {
		var order string
		if err := orders.Decode(&order); err != nil {
			return nil
		}
		if err := says.Encode(order); err != nil {
			return err
		}
	}
}

func TestProcess(t *testing.T) {
	is := func(want string) func(string) bool { return func(said string) bool { return said == want } }
	p := process.Start[string](t, "echo", "one", "work")
	p.Tell("a")
	p.Tell("b")
	for _, want := range []string{"b", "work", "a"} {
		if got := p.Next(want, is(want)); got != want {
			t.Errorf("Next: got %q, want %q", got, want)
		}
	}
	if said, ok := p.NextBefore(time.Now().Add(time.Millisecond), nil); ok {
		t.Errorf("NextBefore: got %q, want nothing", said)
	}
	p.Tell("last")
	p.CloseOrders()
	p.Ends()
	if got := p.Next("the last line", nil); got != "last" || !p.HasEnded() {
		t.Errorf("after its end: got %q, ended %v", got, p.HasEnded())
	}
}

func TestProcessIsKilled(t *testing.T) {
	p := process.Start[string](t, "echo", "one", "work")
	p.Next("its work", nil)
	p.Kill()
	if said, ok := p.NextBefore(time.Now().Add(time.Minute), nil); ok || !p.HasEnded() {
		t.Errorf("after Kill: got %q, ended %v", said, p.HasEnded())
	}
}
