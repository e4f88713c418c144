package worker_test

import (
	"context"
	"io"
	"testing"

	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

func TestWorkerEndsWithItsParent(t *testing.T) {
	stdin, parent := io.Pipe()
	ended := make(chan error)
	go func() { ended <- worker.Run(context.Background(), stdin, io.Discard) }()
	_ = parent.Close()
	if err := <-ended; err == nil {
		t.Error("Run = nil without a job")
	}
}
