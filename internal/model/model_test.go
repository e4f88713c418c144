package model_test

import (
	"testing"

	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/model"
)

func TestProtocol(t *testing.T) { model.Run(t) }

func TestStore(t *testing.T) {
	for range 5 { // it is quick in memory
		model.RunStore(t, func(*testing.T) storetest.Store { return memstore.New() }, 0)
	}
}
