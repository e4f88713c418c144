package cluster_test

import (
	"fmt"
	"testing"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// runStorm has the processes of a storm ask for tokens, prints the counts, and fails the test for
// each violation.
func runStorm(t *testing.T, name string, config storm.Config) {
	t.Helper()
	r, err := storm.Run(t.Context(), config)
	must(t, err)
	for _, violation := range r.Violations {
		t.Error(violation)
	}
	fmt.Printf("%s, storm, %s: %d exchanges where %d were needed, %d reused, %d of %d callers ok\n",
		r.Server, name, r.Refreshes.Calls, r.Refreshes.Needed, r.Refreshes.ReuseDetected, r.CallersOK, r.Callers)
}
