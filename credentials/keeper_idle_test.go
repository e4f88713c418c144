package credentials_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// Where the access token does not end, KeepAlive is what keeps an idle grant from ending.
func TestKeepAlive(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{RefreshToken: secret("seed")})
		w.provider.lifetime = 365 * time.Hour
		p := w.start("P", func(s *setup) { s.service.KeepAlive = 20 * time.Hour })
		defer p.keeps()()
		w.reaches(101 * time.Hour)
		calls := w.calls(6) // at once, and every 20 hours
		for i := 1; i < len(calls); i++ {
			if idle := calls[i].Began.Sub(calls[i-1].Began); idle > 20*time.Hour+time.Minute {
				w.Errorf("the refresh token was idle for %v", idle)
			}
		}
	})
}

// A refresh token whose own end is known is presented before it, whatever the access token's life.
func TestRefreshTokenIsRenewedBeforeItsEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{Token: secret("put-alice"), RefreshToken: secret("seed"), RefreshLifetime: 10 * time.Hour})
		w.provider.lifetime, w.provider.refreshLifetime = 90*time.Hour, 30*time.Hour
		p := w.start("P")
		defer p.keeps()()
		w.reaches(10*time.Hour - time.Minute)
		w.calls(1)
		w.reaches(40*time.Hour - 6*time.Minute)
		calls := w.calls(2)
		if life := calls[1].Began.Sub(calls[0].Began); life > 30*time.Hour-5*time.Minute+time.Minute || life < 30*time.Hour-6*time.Minute {
			w.Errorf("the second refresh token of 30 hours was presented after %v", life)
		}
	})
}

// One that the provider does not send again, nor an end with it, is no reason for another exchange.
func TestRefreshTokenThatKeepsItsEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put(alice, credentials.Grant{Token: secret("put-alice"), RefreshToken: secret("seed"), RefreshLifetime: 10 * time.Hour})
		w.provider.lifetime, w.provider.keeps = 90*time.Hour, true
		p := w.start("P")
		defer p.keeps()()
		w.reaches(60 * time.Hour)
		w.calls(1)
	})
}
