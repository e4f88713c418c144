package audit_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// exchange exchanges a refresh token of account-1 at the provider, under the worker's claim, and
// returns the next refresh token.
func (s *script) exchange(t *testing.T, p *provider.Provider, worker int, refresh string) string {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	request := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.claim(worker, history.Now()).present(worker, history.Now())
	s.Presentations[len(s.Presentations)-1].Serial = p.Serial(refresh)
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, request)
	var granted struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&granted); err != nil {
		t.Fatal(err)
	}
	return granted.RefreshToken
}

// A lost refresh token is told from one that died with its holder or with the answer.
func TestFaultsFindLostGrants(t *testing.T) {
	for name, test := range map[string]struct {
		answered, killed, saved, again bool
		want                           [3]int // Lost, with the holder, with the answer.
	}{
		"saved":               {answered: true, saved: true},
		"thrown away":         {answered: true, want: [3]int{1, 0, 0}},
		"died with holder":    {answered: true, killed: true, want: [3]int{0, 1, 0}},
		"saved, then killed":  {answered: true, saved: true, killed: true},
		"revoked needlessly":  {answered: true, saved: true, again: true, want: [3]int{1, 0, 0}},
		"lost with an answer": {want: [3]int{0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := provider.New(provider.Options{}), newScript()
			first := p.Register("account-1")
			stored := first
			s.Puts[0].Refresh = wire.Fingerprint(credentials.NewSecret(first))
			s.Puts[0].Serial = p.Serial(first)
			next := s.exchange(t, p, 1, first)
			refresh := wire.Fingerprint(credentials.NewSecret(next))
			if test.answered {
				s.add(1, wire.Record{
					Action: wire.Answer, Start: history.Now(), Token: "t1", Refresh: refresh,
				})
			}
			if test.saved {
				stored = next
				s.add(1, wire.Record{
					Action: wire.Save, Start: history.Now(), Token: "t1", Refresh: refresh,
				})
			}
			if test.killed {
				s.kill(1, history.Now())
			}
			if test.again {
				s.exchange(t, p, 2, first)
				s.fail(2, history.Now())
			}
			s.Rows = []audit.Row{{
				Refresh: wire.Fingerprint(credentials.NewSecret(stored)), Serial: p.Serial(stored),
				Newest: p.Current("account-1", stored),
			}}
			s.Provider = p.Presentations()
			r := s.judge()
			if got := [3]int{r.TokensLost, r.LostWithHolder, r.LostWithAnswer}; got != test.want {
				t.Errorf("lost = %v, want %v; violations = %q", got, test.want, r.Violations)
			}
		})
	}
}
