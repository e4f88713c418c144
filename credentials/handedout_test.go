package credentials_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// A provider hands out the same token until that has expired, as Marketo and WSO2 do. No caller
// sees an error, none waits for longer than an exchange, and each token costs few presentations.
func TestTokenThatIsHandedOutAgain(t *testing.T) {
	for name, keeps := range map[string]bool{"callers alone": false, "a keeper": true} {
		inWorldOf(t, name, func(w *world) {
			const life, hours = time.Hour, 12
			w.seed(alice)
			issued, end := 0, time.Time{}
			w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
				if time.Sleep(w.provider.latency); !time.Now().Before(end) {
					issued, end = issued+1, time.Now().Add(life)
				}
				left := max(time.Until(end).Truncate(time.Second), 1) // it rounds down, and says so
				return credentials.Grant{AccessToken: secret(fmt.Sprint("access ", issued)), Lifetime: left}, nil
			}
			processes := w.starts(2)
			if keeps {
				defer processes[0].keeps()()
			}
			for time.Since(w.began) < hours*life {
				for _, p := range processes {
					a := p.ask(alice)
					a.mustGet()
					a.within(2*w.provider.latency + aLook)
				}
				time.Sleep(time.Second)
			}
			n := len(w.provider.record())
			w.Logf("%d presentations for %d tokens", n, issued)
			if issued < hours-1 || n > 4*issued {
				w.Errorf("%d presentations for %d tokens; want at most 4 for each", n, issued)
			}
		})
	}
}

// The same token with a new life is due ahead of its end, as another one is.
func TestTokenWhoseLifeIsExtended(t *testing.T) {
	inWorld(t, func(w *world) {
		w.seed(alice)
		w.provider.script = func(context.Context, credentials.RefreshInput, int) (credentials.Grant, error) {
			return credentials.Grant{AccessToken: secret("access"), Lifetime: time.Hour}, nil
		}
		p := w.start("P")
		for range 2 {
			p.ask(alice).is("access")
			if c := w.row(alice); c.DueIn > 55*time.Minute {
				w.Errorf("the row is due in %v", c.DueIn)
			}
			time.Sleep(58 * time.Minute)
			p.ask(alice).is("access")
			synctest.Wait()
		}
		w.presented(3)
	})
}
