package model_test

import (
	"flag"
	"testing"

	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/model"
)

// TestProtocol draws the same plans in each run, so that a run which fails tells of the change that
// was made. Other plans come with other seeds: -rapid.seed=$RANDOM.
func TestProtocol(t *testing.T) {
	if seed := flag.Lookup("rapid.seed"); seed.Value.String() == "0" {
		if err := flag.Set(seed.Name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	model.Run(t)
}

func TestStore(t *testing.T) {
	for range 5 { // it is quick in memory
		model.RunStore(t, func(*testing.T) storetest.Store { return memstore.New() }, 0)
	}
}
