package history_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/history"
)

func TestTimesAreConverted(t *testing.T) {
	before, at, after := history.Now(), time.Now(), history.Now()
	got, slack := history.At(at), int64(time.Millisecond)
	if got < before-slack || got > after+slack {
		t.Errorf("At = %d of a time between %d and %d", got, before, after)
	}
}
