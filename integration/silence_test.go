package integration_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
	"github.com/latchkey-go/latchkey/credentials/otelcredentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
	"github.com/latchkey-go/latchkey/internal/testkit/leak"
)

// mark stands in each secret of a test, and nowhere else.
const mark = "hunter2mark"

func secret(name string) credentials.Secret { return credentials.NewSecret(mark + "-" + name) }

// echoes are answers of a token endpoint that repeats the secrets that it got, or issues: {token}
// is the refresh token, {secret} the client's, {all} the body of the request, {new} a new secret.
var echoes = map[string]struct {
	status int
	header string
	body   string
}{
	"dead":         {400, "", `{"error":"invalid_grant","error_description":"{token} of {secret} is dead"}`},
	"code":         {400, "", `{"error":"{token}"}`},
	"long-code":    {400, "", `{"error":"invalid_{token}","error_uri":"https://example/{token}"}`},
	"object":       {401, "", `{"error":{"code":"{token}","message":"{all}"}}`},
	"list":         {400, "", `{"errors":[{"errorType":"invalid_grant","message":"{token}"}]}`},
	"status":       {400, "", `{"status":"BAD_{token}","message":"{secret}"}`},
	"description":  {403, "", `{"error":"access_denied","error_description":"{all}"}`},
	"suberror":     {400, "", `{"error":"invalid_grant","error_subtype":"{token}","suberror":"{token}"}`},
	"page":         {400, "Content-Type: text/html", `<html>{all} {secret}</html>`},
	"down":         {503, "Retry-After: {token}", `{all}`},
	"limited":      {429, "X-RateLimit-Reset: {token}", `{"error":"{token}"}`},
	"moved":        {302, "Location: https://example/{token}", `{all}`},
	"bad-location": {302, "Location: ://{token}", ``},
	"cut":          {200, "Content-Length: 5000", `{"access_token":"{new}"`},
	"broken":       {200, "", `{"access_token":"{new}","refresh_token":"{token}",{all}`},
	"lifetime":     {200, "", `{"access_token":"{new}","expires_in":"{token}","token_type":"bearer"}`},
	"kind":         {200, "", `{"access_token":"{new}","token_type":"{token}"}`},
	"none":         {200, "", `{"access_token":"","refresh_token":"{new}","token_type":"bearer"}`},
	"ok-error":     {200, "", `{"ok":false,"error":"{token}"}`},
	"space":        {200, "", `{"access_token":"{new} {new}","token_type":"bearer"}`},
	"extras":       {200, "", `{"access_token":"{new}","token_type":"bearer","id_token":"{new}","x":{"y":"{new}"}}`},
	"form":         {200, "Content-Type: application/x-www-form-urlencoded", `error={token}`},
	"control":      {200, "", `{"access_token":"{new}\u0000\u001b","token_type":"bearer"}`},
	"success":      {200, "", `{"access_token":"{new}","refresh_token":"{new}","expires_in":1,"scope":"{new}"}`},
}

// echo is that endpoint. The account's name, which its refresh token ends with, says how it
// answers.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // of a request that was cut off, what came
	r.Body = io.NopCloser(bytes.NewReader(body))
	token := r.PostFormValue("refresh_token")
	_, account, _ := strings.Cut(token, "-of-")
	answer := echoes[account]
	fill := strings.NewReplacer("{token}", token, "{secret}", r.PostFormValue("client_secret"),
		"{all}", string(body), "{new}", secret("new-of-"+account).Reveal())
	w.Header().Set("Content-Type", "application/json")
	if name, value, ok := strings.Cut(answer.header, ": "); ok {
		w.Header().Set(name, fill.Replace(value))
	}
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, fill.Replace(answer.body)) // the client may have left
}

// collector keeps all that a program gets to see: values, log lines, metrics and spans.
type collector struct {
	*testing.T
	mu      sync.Mutex // guards values and text
	values  []any
	text    bytes.Buffer
	metrics *sdkmetric.ManualReader
	spans   *tracetest.InMemoryExporter
}

// Write implements [io.Writer] for the log.
func (c *collector) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(line)
}

// add keeps values.
func (c *collector) add(values ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values = append(c.values, values...)
}

// observer keeps all events, and has OpenTelemetry's observer keep its share.
func (c *collector) observer() *credentials.Observer {
	c.metrics, c.spans = sdkmetric.NewManualReader(), tracetest.NewInMemoryExporter()
	o, err := otelcredentials.NewObserver(&otelcredentials.Options{
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.metrics)),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(c.spans)),
		Accounts:       true,
	})
	must(c, err)
	ended, waited, down := o.ExchangeEnded, o.CallWaited, o.StoreDown
	o.ExchangeEnded = func(ctx context.Context, e credentials.ExchangeInfo) { c.add(e); ended(ctx, e) }
	o.CallWaited = func(ctx context.Context, i credentials.CallInfo) { c.add(i); waited(ctx, i) }
	o.StoreDown = func(err error) { c.add(err); down(err) }
	return o
}

// silent fails the test if a secret stands in anything that was collected.
func (c *collector) silent() {
	c.Helper()
	var all metricdata.ResourceMetrics
	must(c, c.metrics.Collect(c.Context(), &all))
	spans := c.spans.GetSpans()
	c.add(all, spans, spans.Snapshots())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(spans) == 0 || c.text.Len() == 0 {
		c.Errorf("%d spans and %d bytes of a log were collected; this test would not find a leak",
			len(spans), c.text.Len())
	}
	for _, v := range append(c.values, c.text.String()) {
		if text := leak.Printed(v, mark); text != "" {
			c.Errorf("%T shows a secret: %s", v, text)
		}
	}
}

// services are the policies under which each answer is met, and one whose refresher panics.
func (c *collector) services(url string) credentials.Services {
	refresher := oauth2refresh.New(oauth2.Config{
		ClientID: "client", ClientSecret: secret("client").Reveal(),
		Endpoint: oauth2.Endpoint{TokenURL: url, AuthStyle: oauth2.AuthStyleInParams},
	})
	c.add(refresher)
	return credentials.Services{
		"once":  {Refresher: refresher},
		"never": {Refresher: refresher, Replay: credentials.NeverReplay},
		"panic": {Refresher: credentials.RefresherFunc(
			func(_ context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
				panic(fmt.Sprint("with ", in.RefreshToken.Reveal()))
			})},
		"loud": {Refresher: credentials.RefresherFunc(
			func(_ context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
				return credentials.Grant{}, fmt.Errorf("with %s", in.RefreshToken.Reveal())
			})},
	}
}

// quoteNewTokens has the server refuse all writes of a service's tokens, and quote those in its
// error's text.
const quoteNewTokens = `CREATE TRIGGER quote_new_tokens BEFORE UPDATE ON credentials FOR EACH ROW
BEGIN
	DECLARE text VARCHAR(128);
	IF NEW.service_name = 'once' AND NEW.access_token <> OLD.access_token THEN
		SET text = CONCAT('no ', LEFT(NEW.access_token, 60));
		SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = text;
	END IF;
END`

// TestInvariant14SilentEverywhere: whatever a provider and a server answer, no secret that they
// repeat stands in an error, a log line, an event, a metric, a span, a printed column or the list.
func TestInvariant14SilentEverywhere(t *testing.T) {
	onServers(t, func(t *testing.T, s *server) {
		store, db := s.store(t, interpolated)
		endpoint := httptest.NewServer(http.HandlerFunc(echo))
		t.Cleanup(endpoint.Close)
		c := &collector{T: t}
		m, err := credentials.NewManager(store, c.services(endpoint.URL), &credentials.Options{
			StoreTimeout: time.Second, Observer: c.observer(),
			Logger: slog.New(slog.NewJSONHandler(c, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		must(t, err)
		c.add(m)
		c.askAll(m, store)
		c.printColumns(db)
		execute(t, db, quoteNewTokens)
		c.ask(m, nil, credentials.Key{Service: "once", Account: "success"})
		execute(t, db, "DROP TRIGGER quote_new_tokens")
		c.mistakes(store)
		c.seals(db)
		c.clients(m)
		execute(t, db, "RENAME TABLE credentials TO gone")
		c.ask(m, nil, credentials.Key{Service: "never", Account: "extras"})
		execute(t, db, "RENAME TABLE gone TO credentials")
		c.add(m.Stats(), m.Close(bounded(t)))
		c.silent()
	})
}

// askAll meets each answer under each service, in calls at the same time, and then in a keeper.
func (c *collector) askAll(m *credentials.Manager, store *latchkey.Store) {
	var all sync.WaitGroup
	for _, service := range []string{"once", "never", "panic", "loud"} {
		for account := range maps.Keys(echoes) {
			all.Go(func() { c.ask(m, store, credentials.Key{Service: service, Account: account}) })
		}
	}
	all.Wait()
	keeper, err := credentials.NewKeeper(m, nil)
	must(c, err)
	c.add(keeper, errOf(keeper.RunOnce(bounded(c))), keeper.Stats())
	for status, err := range store.List(bounded(c), latchkey.Filter{}) {
		c.add(status, err)
	}
}

// ask puts a grant, if there is a store for that, and keeps all that callers get for it.
func (c *collector) ask(m *credentials.Manager, store *latchkey.Store, key credentials.Key) {
	if store != nil {
		if err := store.Put(bounded(c), key, credentials.Grant{
			AccessToken: secret("old"), RefreshToken: secret("seed-of-" + key.Account),
			Lifetime: time.Microsecond, Extra: map[string]credentials.Secret{"tenant": secret("tenant")},
		}); err != nil {
			c.Error(err)
		}
	}
	token, err := m.Token(bounded(c), key)
	c.add(token, err)
	next, err := m.Invalidate(bounded(c), key, token)
	status, statusErr := m.Status(bounded(c), key)
	c.add(next, err, status, statusErr)
}

// printColumns keeps the columns that operators look at, which are all but three.
func (c *collector) printColumns(db *sql.DB) {
	failures := 0
	for _, r := range rowsOf(c, db, "SELECT * FROM credentials") {
		if r.text("failure_reason") != "" {
			failures++
		}
		for _, column := range []string{"access_token", "refresh_token", "extra"} {
			delete(r, column)
		}
		c.add(r.String())
	}
	if failures < len(echoes) {
		c.Errorf("%d rows have a reason; this test would not find a leak there", failures)
	}
}

// mistakes keeps the errors of a program that uses the library wrongly.
func (c *collector) mistakes(store *latchkey.Store) {
	put := func(g credentials.Grant) { c.add(g, store.Put(bounded(c), alice, g)) }
	put(credentials.Grant{AccessToken: secret("control\x00")})
	put(credentials.Grant{RefreshToken: secret(strings.Repeat("long", credentials.MaxTokenLength))})
	put(credentials.Grant{RefreshToken: secret("x"), Lifetime: -1})
	put(credentials.Grant{RefreshToken: secret("x"),
		Extra: map[string]credentials.Secret{"": secret("no name"), "n": secret("\xff")}})
	config := mysql.NewConfig()
	config.Net, config.Addr, config.DBName = "tcp", "127.0.0.1:1", "app"
	config.User, config.Passwd = "app", secret("password").Reveal()
	away := newStore(c, openFor(c, config))
	ctx := within(c, 100*time.Millisecond)
	c.add(away.Check(ctx), errOf(away.Get(ctx, alice)), away.Put(ctx, alice, refreshToken(mark)))
}

// seals keeps the errors of a host's AEAD, and those of rows that do not open.
func (c *collector) seals(db *sql.DB) {
	for _, aead := range []latchkey.AEAD{
		foreignAEAD{}, foreignAEAD{panics: true}, testkit.NewKeyring(1), testkit.NewKeyring(2),
	} {
		store := storeWith(c, db, latchkey.Options{
			AEAD: aead, RequireSealed: true, Logger: slog.New(slog.NewJSONHandler(c, nil)),
		})
		_, reseal := store.Reseal(bounded(c), latchkey.ResealOptions{})
		c.add(store.Check(bounded(c)), errOf(store.Get(bounded(c), alice)), reseal,
			store.Put(bounded(c), alice, credentials.Grant{AccessToken: secret("sealed"), RefreshToken: secret("sealed")}))
	}
}

// clients keeps what HTTP clients that carry a token get from an API that repeats it, and from one
// that is away.
func (c *collector) clients(m *credentials.Manager) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		w.Header().Set("WWW-Authenticate", `Bearer error="`+token+`", error_description="`+token+`"`)
		w.Header().Set("Location", "/elsewhere")
		status, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil {
			status = http.StatusTeapot
		}
		w.WriteHeader(status)
	}))
	c.Cleanup(api.Close)
	source, err := m.Source(credentials.Key{Service: "never", Account: "success"})
	must(c, err)
	client := bearer.Client(source)
	for _, url := range []string{api.URL + "/301", api.URL + "/401", "http://127.0.0.1:1/"} {
		response, err := client.Get(url)
		c.add(err)
		if err == nil {
			must(c, response.Body.Close())
		}
	}
	c.add(source, client)
}
