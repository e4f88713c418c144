package otelcredentials_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/memstore"
	"github.com/latchkey-go/latchkey/credentials/otelcredentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
	"github.com/latchkey-go/latchkey/internal/testkit/leak"
)

// rig is a manager with an SDK that keeps all metrics and spans.
type rig struct {
	*testing.T
	*credentials.Manager
	opts   otelcredentials.Options
	db     *memstore.Store
	store  *testkit.Store
	reader *sdkmetric.ManualReader
	spans  *tracetest.InMemoryExporter
	tracer trace.Tracer // the program's own

	refresh   credentials.RefresherFunc // nil: a token that lives for an hour
	presented []trace.SpanContext       // of the contexts that the refresher got
}

// inRig runs a test in a bubble, and then looks for secrets in all that was collected.
func inRig(t *testing.T, opts otelcredentials.Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{
			T: t, opts: opts, db: memstore.New(),
			reader: sdkmetric.NewManualReader(), spans: tracetest.NewInMemoryExporter(),
		}
		r.store = testkit.NewStore(r.db)
		tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
		r.tracer = tracers.Tracer("test")
		opts.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
		opts.TracerProvider = tracers
		observer, err := otelcredentials.NewObserver(&opts)
		if err != nil {
			t.Fatal(err)
		}
		r.Manager, err = credentials.NewManager(r.store, credentials.Services{"github": {
			MinTokenAge: time.Nanosecond,
			Refresher: credentials.RefresherFunc(func(ctx context.Context, in credentials.RefreshInput) (credentials.Grant, error) {
				r.presented = append(r.presented, trace.SpanContextFromContext(ctx))
				time.Sleep(200 * time.Millisecond)
				if r.refresh != nil {
					return r.refresh(ctx, in)
				}
				return credentials.Grant{
					AccessToken: secret("access"), RefreshToken: secret("next"), Lifetime: time.Hour,
					Extra: map[string]credentials.Secret{"tenant": secret("tenant")},
				}, nil
			}),
		}}, &credentials.Options{Holder: "web-1", Observer: observer, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		test(r)
		r.store.Heal()
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		r.silent()
	})
}

func secret(s string) credentials.Secret { return credentials.NewSecret(mark + "-" + s) }

// silent fails the test if a secret stands in anything that was collected, or an account that was
// not asked for.
func (r *rig) silent() {
	r.Helper()
	var all metricdata.ResourceMetrics
	if err := r.reader.Collect(r.Context(), &all); err != nil {
		r.Error(err)
	}
	spans := r.spans.GetSpans()
	if len(all.ScopeMetrics) == 0 || len(spans) == 0 {
		r.Errorf("%d scopes of metrics and %d spans were collected; this test would not find a leak",
			len(all.ScopeMetrics), len(spans))
	}
	for _, v := range []any{all, spans, spans.Snapshots()} {
		if text := leak.Reached(v, mark); text != "" {
			r.Errorf("%T has the secret %q", v, text)
		}
		if text := leak.Printed(v, mark); text != "" {
			r.Errorf("%T shows a secret: %s", v, text)
		}
		if text := leak.Reached(v, alice.Account); text != "" && !r.opts.Accounts {
			r.Errorf("%T names the account, which was not asked for: %q", v, text)
		}
	}
}

func (r *rig) put(keys ...credentials.Key) {
	r.Helper()
	for _, key := range keys {
		if err := r.db.Put(r.Context(), key, credentials.Grant{RefreshToken: secret("seed")}); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *rig) mustToken(ctx context.Context, key credentials.Key) credentials.Token {
	r.Helper()
	token, err := r.Token(ctx, key)
	if err != nil {
		r.Fatal(err)
	}
	synctest.Wait()
	return token
}

// metrics returns a line for each time series of the library.
func (r *rig) metrics() (lines []string) {
	r.Helper()
	synctest.Wait()
	var all metricdata.ResourceMetrics
	if err := r.reader.Collect(r.Context(), &all); err != nil {
		r.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Description == "" || m.Unit == "" {
				r.Errorf("%s has the description %q and the unit %q", m.Name, m.Description, m.Unit)
			}
			line := func(set attribute.Set, value any) {
				lines = append(lines, fmt.Sprintf("%s{%s} %v", m.Name, set.Encoded(attribute.DefaultEncoder()), value))
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					line(p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					line(p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					line(p.Attributes, fmt.Sprintf("%d: %.1f", p.Count, p.Sum))
				}
			default:
				r.Errorf("%s is a %T", m.Name, m.Data)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// has fails the test unless those are all time series.
func (r *rig) has(want ...string) {
	r.Helper()
	slices.Sort(want)
	if got := r.metrics(); !slices.Equal(got, want) {
		r.Errorf("got the metrics\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// exchanges returns the spans of exchanges since it was called last.
func (r *rig) exchanges(want int) []tracetest.SpanStub {
	r.Helper()
	synctest.Wait()
	spans := slices.DeleteFunc(r.spans.GetSpans(), func(s tracetest.SpanStub) bool {
		return !strings.HasPrefix(s.Name, "exchange ")
	})
	if len(spans) != want {
		r.Fatalf("there are %d spans of exchanges, want %d", len(spans), want)
	}
	return spans
}

// attributes returns those of the span but for the claim, which must be there.
func attributes(t *testing.T, s tracetest.SpanStub) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, a := range s.Attributes {
		all[string(a.Key)] = a.Value.AsString()
	}
	if all["latchkey.claim"] == "" {
		t.Error("the span names no claim")
	}
	delete(all, "latchkey.claim")
	return all
}

func is(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("the span has the attributes %v, want %v", got, want)
	}
}
