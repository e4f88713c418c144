package otelcredentials_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/otelcredentials"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// mark stands in every secret of these tests and nowhere else.
const mark = "SECRET"

var (
	alice = credentials.Key{Service: "github", Account: "alice"}
	bob   = credentials.Key{Service: "github", Account: "bob"}
)

// An exchange that a caller waits for is a child of the caller's span, has the refresher's requests
// as its children, and is counted.
func TestExchangeOnDemand(t *testing.T) {
	inRig(t, otelcredentials.Options{}, func(r *rig) {
		r.put(alice)
		r.store.After(testkit.Claim, testkit.Delay(100*time.Millisecond))
		began := time.Now()
		ctx, request := r.tracer.Start(r.Context(), "request")
		r.mustToken(ctx, alice)
		request.End()
		span := r.exchanges(1)[0]
		if span.Name != "exchange github" || span.Parent.SpanID() != request.SpanContext().SpanID() ||
			span.SpanContext.TraceID() != request.SpanContext().TraceID() || len(span.Links) != 0 {
			r.Errorf("got the span %q in trace %v of %v with links %v",
				span.Name, span.SpanContext.TraceID(), span.Parent.SpanID(), span.Links)
		}
		if r.presented[0].SpanID() != span.SpanContext.SpanID() {
			r.Error("the refresher's context does not have the exchange's span")
		}
		if span.Status.Code != codes.Unset || !span.StartTime.Equal(began) || span.EndTime.Sub(began) != 300*time.Millisecond {
			r.Errorf("got the status %v, from %v to %v", span.Status, span.StartTime, span.EndTime)
		}
		is(t, attributes(t, span), map[string]string{
			"latchkey.service": "github", "latchkey.trigger": "expired", "latchkey.outcome": "saved", "latchkey.holder": "web-1",
		})
		r.has(
			"latchkey.exchanges{latchkey.outcome=saved,latchkey.service=github,latchkey.trigger=expired} 1",
			"latchkey.exchange.duration{latchkey.service=github,latchkey.trigger=expired} 1: 0.2",
			"latchkey.wait.duration{latchkey.service=github} 1: 0.3",
			"latchkey.store.available{} 1",
		)
	})
}

// Where the accounts are asked for, the status has the error's text.
func TestExchangeThatFailsWithAccounts(t *testing.T) {
	inRig(t, otelcredentials.Options{Accounts: true}, func(r *rig) {
		r.put(alice)
		r.refresh = func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
			return credentials.Grant{}, fmt.Errorf("a provider's answer with %s", mark)
		}
		_, err := r.Token(r.Context(), alice)
		if span := r.exchanges(1)[0]; err == nil || span.Status.Description != err.Error() {
			r.Errorf("got error %v and status %v", err, span.Status)
		}
	})
}

// An exchange ahead of expiry has a trace of its own, which is linked to the caller's span; that
// span is not ended.
func TestExchangeAheadOfExpiry(t *testing.T) {
	inRig(t, otelcredentials.Options{Accounts: true}, func(r *rig) {
		r.put(alice)
		r.mustToken(r.Context(), alice)
		r.spans.Reset()
		time.Sleep(56 * time.Minute)
		ctx, request := r.tracer.Start(r.Context(), "request")
		r.mustToken(ctx, alice)
		time.Sleep(time.Minute)
		span := r.exchanges(1)[0]
		if span.Parent.IsValid() || span.SpanContext.TraceID() == request.SpanContext().TraceID() {
			r.Errorf("the span is the child of %v", span.Parent.SpanID())
		}
		if len(span.Links) != 1 || !span.Links[0].SpanContext.Equal(request.SpanContext()) {
			r.Errorf("got the links %v", span.Links)
		}
		if !request.IsRecording() {
			r.Error("the caller's span has ended")
		}
		is(t, attributes(t, span), map[string]string{
			"latchkey.service": "github", "latchkey.trigger": "due", "latchkey.outcome": "saved", "latchkey.holder": "web-1",
			"latchkey.account": "alice",
		})
	})
}

// A failed exchange has its class, and the status of its span the error's text, without the
// provider's answer.
func TestExchangeThatFails(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
		text string // of the status
	}{
		{&credentials.RefreshError{
			Class: credentials.ClassDead, Code: "invalid_grant", Reason: "of " + mark + "-seed", Err: errors.New("body: " + mark),
		}, "dead", "dead (invalid_grant)"},
		{fmt.Errorf("a provider's answer with %s", mark), "unknown", "unknown"},
	} {
		inRig(t, otelcredentials.Options{}, func(r *rig) {
			r.put(alice)
			r.refresh = func(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
				return credentials.Grant{}, test.err
			}
			_, err := r.Token(r.Context(), alice)
			span := r.exchanges(1)[0]
			if err == nil || span.Status != (sdktrace.Status{Code: codes.Error, Description: test.text}) {
				r.Errorf("got error %v and status %v", err, span.Status)
			}
			if got := attributes(t, span); got["error.type"] != test.want || got["latchkey.outcome"] != "failed" {
				r.Errorf("got the attributes %v", got)
			}
			r.has(
				"latchkey.exchanges{error.type="+test.want+",latchkey.outcome=failed,latchkey.service=github,latchkey.trigger=expired} 1",
				"latchkey.exchange.duration{error.type="+test.want+",latchkey.service=github,latchkey.trigger=expired} 1: 0.2",
				"latchkey.wait.duration{error.type="+test.want+",latchkey.service=github} 1: 0.2",
				"latchkey.store.available{} 1",
			)
		})
	}
}

// A takeover, a late success and an outage are counted; an exchange under which nothing was
// presented has no duration.
func TestRareEvents(t *testing.T) {
	inRig(t, otelcredentials.Options{}, func(r *rig) {
		r.put(alice, bob)
		claim := credentials.Claim{ID: "dead", Holder: "web-0", Lease: credentials.DefaultLease}
		if _, err := r.db.Claim(r.Context(), alice, claim); err != nil {
			r.Fatal(err)
		}
		r.mustToken(r.Context(), alice)
		if got := attributes(t, r.exchanges(1)[0]); got["latchkey.took_over"] != "web-0" {
			r.Errorf("got the attributes %v", got)
		}

		r.store.After(testkit.Claim, testkit.Once(testkit.Delay(17*time.Second)))
		r.store.Before(testkit.Save, testkit.Once(testkit.Delay(40*time.Second)))
		r.mustToken(r.Context(), bob)
		if events := r.exchanges(3)[2].Events; len(events) != 1 || events[0].Name != "saved late" {
			r.Errorf("got the events %v", events)
		}

		r.store.Down(true)
		time.Sleep(2 * time.Hour)
		if _, err := r.Token(r.Context(), alice); err == nil {
			r.Error("got a token, and the store is down")
		}
		lines := r.metrics()
		for _, want := range []string{
			"latchkey.exchanges{latchkey.outcome=released,latchkey.service=github,latchkey.trigger=expired} 1",
			"latchkey.exchange.duration{latchkey.service=github,latchkey.trigger=expired} 2: 0.4",
			"latchkey.takeovers{latchkey.service=github} 1",
			"latchkey.late_saves{latchkey.service=github} 1",
			"latchkey.store.outages{} 1",
			"latchkey.store.available{} 0",
		} {
			if !slices.Contains(lines, want) {
				r.Errorf("%s is not in\n%s", want, strings.Join(lines, "\n"))
			}
		}
		r.store.Down(false)
		time.Sleep(time.Second)
		r.mustToken(r.Context(), alice)
		if lines := r.metrics(); !slices.Contains(lines, "latchkey.store.available{} 1") {
			r.Errorf("the store is not available in\n%s", strings.Join(lines, "\n"))
		}
	})
}

// An end whose beginning was lost is counted, and ends no span of anybody else.
func TestEndWithoutBeginning(t *testing.T) {
	inRig(t, otelcredentials.Options{}, func(r *rig) {
		observer, err := otelcredentials.NewObserver(&otelcredentials.Options{
			MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
		})
		if err != nil {
			r.Fatal(err)
		}
		ctx, request := r.tracer.Start(r.Context(), "request")
		observer.ExchangeEnded(ctx, credentials.ExchangeInfo{Outcome: credentials.OutcomeSaved})
		if !request.IsRecording() {
			r.Error("the caller's span has ended")
		}
		request.End()
	})
}

// refusing is a provider of meters that refuse every counter.
type refusing struct{ noop.MeterProvider }

type refusingMeter struct{ noop.Meter }

func (refusing) Meter(string, ...metric.MeterOption) metric.Meter { return refusingMeter{} }

func (refusingMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return noop.Int64Counter{}, errors.New("refused")
}

// The global providers are the default, and an instrument that is refused is an error.
func TestNewObserver(t *testing.T) {
	if o, err := otelcredentials.NewObserver(nil); o == nil || err != nil {
		t.Errorf("got %v, %v", o, err)
	}
	if o, err := otelcredentials.NewObserver(&otelcredentials.Options{MeterProvider: refusing{}}); o != nil || err == nil {
		t.Errorf("got %v, %v; want an error", o, err)
	}
}

// Every event has a function: a new one must not be forgotten.
func TestEveryEvent(t *testing.T) {
	o, err := otelcredentials.NewObserver(nil)
	if err != nil {
		t.Fatal(err)
	}
	functions := reflect.ValueOf(*o)
	for i := range functions.NumField() {
		if functions.Field(i).IsNil() {
			t.Errorf("%s is not set", functions.Type().Field(i).Name)
		}
	}
}
