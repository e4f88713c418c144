package integration_test

import (
	"testing"

	"github.com/latchkey-go/latchkey/credentials/storetest"
	"github.com/latchkey-go/latchkey/internal/model"
)

// TestModel has holders claim, save, fail, put and delete at random on the real store, late, repeated and at the same
// time, and holds every answer and every row against the model. In memory the same machine takes many more steps.
func TestModel(t *testing.T) {
	const steps = 1500
	onServers(t, func(t *testing.T, s *server) {
		store, _ := s.store(t, interpolated)
		model.RunStore(t, func(*testing.T) storetest.Store { return store }, steps)
	})
}
