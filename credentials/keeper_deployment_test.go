package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// A keeper that comes upon another deployment's credentials stops, says so, and exchanges nothing
// more, of no service.
func TestKeeperStopsAtAnotherDeployment(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(accounts("github", 5)...)
		p := w.start("P")
		foreign := fmt.Errorf("%w: github/account-0000", credentials.ErrOtherDeployment)
		p.store.Before(testkit.ClaimDue, testkit.Answer(foreign))
		ended := make(chan error, 1)
		go func() { ended <- p.keeper.Run(w.Context()) }()
		w.reaches(time.Second)
		select {
		case err := <-ended:
			if !errors.Is(err, credentials.ErrOtherDeployment) {
				w.Errorf("Run returned %v, want ErrOtherDeployment", err)
			}
		default:
			w.Fatal("Run goes on")
		}
		if logs := w.logs.String(); !strings.Contains(logs, "level=ERROR") || !strings.Contains(logs, "another deployment") {
			w.Errorf("the log does not say at error level why the keeper stopped: %s", logs)
		}
		p.store.Heal()
		w.reaches(time.Hour)
		w.presented(0)
	})
}

// A credential that does not open, or is another deployment's, is an answer of the store and no
// outage, though it comes when the time for it is over (a slow KMS): its callers get that error.
func TestUnusableCredentialIsNoOutage(t *testing.T) {
	for _, unusable := range []error{credentials.ErrSealed, credentials.ErrOtherDeployment} {
		inWorldOf(t, unusable.Error(), func(w *world) {
			w.seed(alice)
			p := w.start("P")
			p.store.Before(testkit.Get, func(ctx context.Context, _ *testkit.Call) error {
				<-ctx.Done()
				return unusable
			})
			if err := p.ask(alice).fails(unusable); errors.Is(err, credentials.ErrUnavailable) {
				w.Errorf("the caller got error %v, want %v alone", err, unusable)
			}
			if n := p.Stats().StoreFailures; n != 0 {
				w.Errorf("%d calls of the store count as failed", n)
			}
		})
	}
}
