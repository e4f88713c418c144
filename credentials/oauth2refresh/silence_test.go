package oauth2refresh_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/internal/testkit/leak"
)

// FuzzInvariant14SilentAnswers: whatever a provider answers, and however it repeats the refresh
// token and the client secret, a manager shows neither: not in an error, not in its log, not in the
// row's failure. In the answer, byte 1 stands for the token, byte 2 for the client secret and byte
// 3 for a secret that the provider issues.
func FuzzInvariant14SilentAnswers(f *testing.F) {
	const mark = "hunter2mark"
	for _, body := range []string{
		`{"error":"invalid_grant","error_description":"` + "\x01 of \x02" + `"}`,
		`{"error":"` + "\x01" + `","error_subtype":"` + "\x01" + `","error_codes":[1,"` + "\x02" + `"]}`,
		`{"error":{"code":"` + "\x01" + `"},"errors":[{"errorType":"` + "\x02" + `"}],"status":"` + "\x03" + `"}`,
		`{"access_token":"` + "\x03" + `","expires_in":"` + "\x01" + `","token_type":"` + "\x02" + `"}`,
		`{"data":{"access_token":"` + "\x03" + `","refresh_token":"` + "\x03" + `","scope":["` + "\x03" + `"]}}`,
		"error=\x01&error_description=\x02", "<html>\x01", "\x02",
	} {
		f.Add(200, "", []byte(body))
		f.Add(400, "\x01", []byte(body))
		f.Add(503, "\x02", []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, header string, body []byte) {
		if status < 200 || status > 999 {
			return
		}
		fill := strings.NewReplacer(mark, "", "\x01", mark+"-refresh", "\x02", mark+"-client", "\x03", mark+"-issued")
		answer := func(r *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, r.Body)
			filled := fill.Replace(header)
			return &http.Response{
				StatusCode: status, Status: filled, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
				Header: http.Header{
					"Content-Type": {filled}, "Location": {filled}, "Retry-After": {filled}, "X-Ratelimit-Reset": {filled},
				},
				Body: io.NopCloser(strings.NewReader(fill.Replace(string(body)))),
			}, nil
		}
		refresher := oauth2refresh.New(oauth2.Config{
			ClientID: "app", ClientSecret: mark + "-client",
			Endpoint: oauth2.Endpoint{TokenURL: "https://login.example/token", AuthStyle: oauth2.AuthStyleInParams},
		}).With(oauth2refresh.Options{HTTPClient: &http.Client{Transport: roundTrip(answer)}})
		var log bytes.Buffer
		store, key := memstore.New(), credentials.Key{Service: "it", Account: "alice"}
		m, err := credentials.NewManager(store, credentials.Services{"it": {Refresher: refresher}}, &credentials.Options{
			Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err == nil {
			err = store.Put(t.Context(), key, credentials.Grant{
				RefreshToken: credentials.NewSecret(mark + "-refresh"),
				AccessToken:  credentials.NewSecret(mark + "-old"), Lifetime: time.Nanosecond,
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		token, err := m.Token(t.Context(), key)
		standing, statusErr := m.Status(t.Context(), key)
		row, rowErr := store.Get(t.Context(), key)
		closeErr := m.Close(t.Context())
		if err := errors.Join(statusErr, rowErr, closeErr); err != nil {
			t.Fatal(err)
		}
		for _, v := range []any{token, err, standing, row, row.Failure, log.String()} {
			if text := leak.Printed(v, mark); text != "" {
				t.Errorf("%T shows a secret: %s", v, text)
			}
		}
	})
}
