package oauth2refresh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// endpoint is a token endpoint that answers in the process, under fake time. n counts the
// presentations from 1.
type endpoint func(n int) (status int, body string)

// always answers everybody so.
func always(status int, body string) endpoint {
	return func(int) (int, string) { return status, body }
}

// hourly issues tokens of an hour, in answers of that form with %d for the token's number.
func hourly(body string) endpoint {
	return func(n int) (int, string) { return 200, fmt.Sprintf(body, n) }
}

// tooEarly answers as Exact Online does, with tokens of ten minutes.
func tooEarly() endpoint {
	var issued time.Time
	return func(n int) (int, string) {
		if time.Since(issued) < 570*time.Second {
			return 400, `{"error":"access_denied","error_description":"Rate limit exceeded: access_token not expired"}`
		}
		issued = time.Now()
		return 200, fmt.Sprintf(`{"access_token":"access-%d","refresh_token":"refresh-%d","expires_in":"600"}`, n, n)
	}
}

// handedOutAgain answers as Marketo does, with tokens of an hour.
func handedOutAgain() endpoint {
	var ends time.Time
	number := 0
	return func(int) (int, string) {
		if !time.Now().Before(ends) {
			number, ends = number+1, time.Now().Add(time.Hour)
		}
		return 200, fmt.Sprintf(`{"access_token":"access-%d","expires_in":%d}`, number, time.Until(ends)/time.Second)
	}
}

var days = []struct {
	name      string
	answers   endpoint
	edit      func(*credentials.Service)
	bare      bool              // the row has no refresh token
	class     credentials.Class // in the row; "": none
	code      string
	lifetime  time.Duration // of the last token, at its issue
	presented [2]int        // at least and at most
}{
	// A dead grant in other words, and what nobody knows.
	{name: "GitHub, dead", answers: always(200, `{"error":"bad_refresh_token"}`),
		class: dead, code: "bad_refresh_token", presented: [2]int{1, 1}},
	{name: "HubSpot, dead", answers: always(400, `{"status":"BAD_REFRESH_TOKEN"}`),
		class: dead, code: "BAD_REFRESH_TOKEN", presented: [2]int{1, 1}},
	{name: "OpenAI, dead", answers: always(401, `{"error":{"code":"refresh_token_reused"}}`),
		class: dead, code: "refresh_token_reused", presented: [2]int{1, 1}},
	{name: "Fitbit, dead", answers: always(400, `{"errors":[{"errorType":"invalid_grant"}]}`),
		class: dead, code: "invalid_grant", presented: [2]int{1, 1}},
	{name: "Microsoft, dead", answers: always(400, `{"error":"interaction_required"}`),
		class: dead, code: "interaction_required", presented: [2]int{1, 1}},
	{name: "X, dead", answers: always(400, `{"error":"invalid_request","error_description":"Value passed for the token was invalid."}`),
		class: dead, code: "invalid_request", presented: [2]int{1, 1}},
	{name: "404 with a reason that nobody knows", answers: always(404, `{"error":"no_such_thing"}`),
		class: dead, code: "unconfirmed", presented: [2]int{8, 50}},
	{name: "400 without a body", answers: always(400, ``),
		class: dead, code: "unconfirmed", presented: [2]int{8, 50}},

	// A refusal is no lost answer.
	{name: "a firewall, never replayed", answers: always(400, `<html>blocked</html>`),
		edit: neverReplay, class: transient, presented: [2]int{100, 800}},
	{name: "the provider's own fault, never replayed", answers: always(400, `{"error":"server_error"}`), edit: neverReplay,
		class: transient, code: "server_error", presented: [2]int{100, 800}},
	{name: "a wrong client, never replayed", answers: always(200, `{"error":"incorrect_client_credentials"}`), edit: neverReplay,
		class: transient, code: "incorrect_client_credentials", presented: [2]int{100, 800}},
	{name: "500, never replayed", answers: always(500, ``),
		edit: neverReplay, class: dead, code: "outcome_unknown", presented: [2]int{1, 1}},

	// Too early.
	{name: "Exact Online", answers: tooEarly(), lifetime: 10 * time.Minute, presented: [2]int{144, 4 * 144}},
	{name: "Exact Online, half a minute ahead", answers: tooEarly(),
		edit:     func(s *credentials.Service) { s.RefreshAhead = 20 * time.Second },
		lifetime: 10 * time.Minute, presented: [2]int{144, 160}},
	{name: "Marketo", answers: handedOutAgain(), lifetime: time.Hour, presented: [2]int{24, 4 * 25}},

	// Lifetimes.
	{name: "Zoho", answers: hourly(`{"access_token":"access-%d","expires_in":3600000,"expires_in_sec":3600}`),
		lifetime: time.Hour, presented: [2]int{24, 28}},
	{name: "milliseconds alone, bounded", answers: hourly(`{"access_token":"access-%d","expires_in":3600000}`),
		edit: func(s *credentials.Service) { s.MaxLifetime = time.Hour }, lifetime: time.Hour, presented: [2]int{24, 28}},
	{name: "nothing said", answers: hourly(`{"access_token":"access-%d"}`),
		lifetime: credentials.Never, presented: [2]int{1, 1}},

	// Nested successes.
	{name: "Lark", answers: hourly(`{"data":{"access_token":"access-%d","refresh_token":"r","expires_in":3600}}`), lifetime: time.Hour, presented: [2]int{24, 28}},

	// Nothing was presented.
	{name: "no refresh token", answers: always(200, `{"access_token":"a"}`), bare: true,
		class: transient, presented: [2]int{0, 0}},
}

func neverReplay(s *credentials.Service) { s.Replay = credentials.NeverReplay }

// TestADay: a keeper and a caller a minute, for a day of fake time, at each of these providers. The
// row says in the end what the answers mean, and the provider has got few presentations. Nobody
// sees an error where the provider is only peculiar.
func TestADay(t *testing.T) {
	for _, tt := range days {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDay(t, tt.answers, tt.edit)
				grant := credentials.Grant{RefreshToken: credentials.NewSecret("refresh-0")}
				if tt.bare {
					grant = credentials.Grant{}
				}
				d.run(grant)
				c, err := d.store.Get(t.Context(), d.key)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d presentations, %d errors of %d; the row says %s (%s) %s",
					d.presented, d.failed, d.asked, c.Failure.Class, c.Failure.Code, c.Failure.Reason)
				if c.Failure.Class != tt.class || c.Failure.Code != tt.code {
					t.Errorf("the row says %s (%s); want %s (%s)", c.Failure.Class, c.Failure.Code, tt.class, tt.code)
				}
				if d.presented < tt.presented[0] || d.presented > tt.presented[1] {
					t.Errorf("%d presentations; want %d to %d", d.presented, tt.presented[0], tt.presented[1])
				}
				if tt.class != "" {
					return
				}
				if d.failed > 0 {
					t.Errorf("%d of %d callers got an error", d.failed, d.asked)
				}
				if got := d.lifetime; got > tt.lifetime || got < tt.lifetime-time.Minute {
					t.Errorf("the last token lived for %v; want %v", got, tt.lifetime)
				}
			})
		})
	}
}

// day is a process with a keeper and a caller.
type day struct {
	*testing.T
	store   *memstore.Store
	manager *credentials.Manager
	key     credentials.Key

	presented     int
	asked, failed int           // callers
	lifetime      time.Duration // the longest that a caller's token had left in the last hours
}

func newDay(t *testing.T, answers endpoint, edit func(*credentials.Service)) *day {
	d := &day{T: t, store: memstore.New(), key: credentials.Key{Service: "it", Account: "alice"}}
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		d.presented++
		status, body := answers(d.presented)
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
		if strings.HasPrefix(body, "<") {
			w.Header().Set("Content-Type", "text/html")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return w.Result(), nil
	})
	service := credentials.Service{Refresher: over(transport, "https://login.example/token")}
	if edit != nil {
		edit(&service)
	}
	m, err := credentials.NewManager(d.store, credentials.Services{d.key.Service: service},
		&credentials.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.manager = m
	return d
}

// run puts the grant, keeps for a day, and asks once a minute.
func (d *day) run(grant credentials.Grant) {
	if err := d.store.Put(d.Context(), d.key, grant); err != nil {
		d.Fatal(err)
	}
	keeper, err := credentials.NewKeeper(d.manager, nil)
	if err != nil {
		d.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(d.Context(), 24*time.Hour)
	defer cancel()
	kept := make(chan error)
	go func() { kept <- keeper.Run(ctx) }()
	for began := time.Now(); time.Since(began) < 24*time.Hour; time.Sleep(time.Minute) {
		d.asked++
		token, err := d.manager.Token(d.Context(), d.key)
		switch {
		case err != nil:
			d.failed++
		case token.Expiry.IsZero():
			d.lifetime = credentials.Never
		case time.Since(began) > 12*time.Hour:
			d.lifetime = max(d.lifetime, time.Until(token.Expiry))
		}
	}
	if err := <-kept; !errors.Is(err, context.DeadlineExceeded) {
		d.Errorf("Run: %v", err)
	}
	if err := d.manager.Close(context.Background()); err != nil {
		d.Errorf("Close: %v", err)
	}
}
