// Package otelcredentials makes OpenTelemetry metrics and spans of the events of a
// [credentials.Manager], with OpenTelemetry's API alone:
//
//	observer, err := otelcredentials.NewObserver(nil)
//	…
//	m, err := credentials.NewManager(store, services, &credentials.Options{Observer: observer})
//
// Metrics:
//
//	name                        instrument    attributes                  value
//	--------------------------  ------------  --------------------------  ----------------------------
//	latchkey.exchanges          counter       service, trigger, outcome,  exchanges that have ended
//	                                          error.type
//	latchkey.exchange.duration  histogram, s  service, trigger,           how long the provider took,
//	                                          error.type                  where it was asked
//	latchkey.takeovers          counter       service                     exchanges under the lease of a
//	                                                                      holder that seemed dead
//	latchkey.late_saves         counter       service                     successes that were saved when
//	                                                                      their time was over
//	latchkey.wait.duration      histogram, s  service, error.type         how long the callers of one
//	                                                                      call waited for an exchange
//	latchkey.store.outages      counter                                   outages of the store
//	latchkey.store.available    gauge                                     1, or 0 during an outage
//
// The attributes are latchkey.service, latchkey.trigger ([credentials.Trigger]) and
// latchkey.outcome ([credentials.Outcome]). The attribute error.type is that of the semantic
// conventions: of a failed exchange its class (dead, transient, unknown), of another error
// "_OTHER"; without a failure it is absent. No metric has an account: a time series for each would
// be too many.
//
// Spans: each exchange has one, from the request for its lease until its result is stored, with the
// name "exchange" and the service. The requests of the refresher are its children, if the refresher
// passes its context on. Where callers wait, the span is a child of the span of the caller that
// began the call. An exchange ahead of expiry, which nobody waits for, has a trace of its own, with
// a link to that span. Beside the metrics' attributes a span has latchkey.holder, latchkey.claim
// (the claim's ID, which differs for each exchange), latchkey.took_over of a dead holder's name,
// and where [Options] asks for it latchkey.account. The status of a failed one has its class and
// code or, where the account is asked for, the error's text.
//
// No secret and no response body of a provider stands in any of them.
package otelcredentials

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/latchkey-go/latchkey/credentials"
)

// scope is the name of the instrumentation.
const scope = "github.com/latchkey-go/latchkey/credentials/otelcredentials"

// Options change an observer. Nil, and each field's zero value, means the default.
type Options struct {
	// MeterProvider has the metrics. Nil: otel.GetMeterProvider().
	MeterProvider metric.MeterProvider

	// TracerProvider has the spans. Nil: otel.GetTracerProvider().
	TracerProvider trace.TracerProvider

	// Accounts gives spans the attribute latchkey.account, and those that failed the error's text,
	// which names the account. Names of accounts may be personal data.
	Accounts bool
}

// NewObserver returns an observer for the events of one manager, for [credentials.Options]. Its
// error is that of a provider which refuses an instrument.
func NewObserver(opts *Options) (*credentials.Observer, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	t := &telemetry{tracer: o.TracerProvider.Tracer(scope), accounts: o.Accounts}
	if err := t.makeInstruments(o.MeterProvider.Meter(scope)); err != nil {
		return nil, err
	}
	t.available.Record(context.Background(), 1)
	return &credentials.Observer{
		ExchangeBegan: t.exchangeBegan,
		ExchangeEnded: t.exchangeEnded,
		SavedLate:     t.savedLate,
		CallWaited:    t.callWaited,
		StoreDown:     t.storeDown,
		StoreUp:       t.storeUp,
	}, nil
}

// telemetry has the instruments of an observer.
type telemetry struct {
	tracer   trace.Tracer
	accounts bool

	exchanges metric.Int64Counter
	duration  metric.Float64Histogram
	takeovers metric.Int64Counter
	lateSaves metric.Int64Counter
	waits     metric.Float64Histogram
	outages   metric.Int64Counter
	available metric.Int64Gauge
}

// makeInstruments makes the instruments, or returns all errors of the meter.
func (t *telemetry) makeInstruments(m metric.Meter) error {
	var all [7]error
	// In seconds, as the semantic conventions have it for requests, and on to the length of a
	// lease.
	buckets := metric.WithExplicitBucketBoundaries(
		0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 30, 60)
	t.exchanges, all[0] = m.Int64Counter("latchkey.exchanges", metric.WithUnit("{exchange}"),
		metric.WithDescription("Exchanges that have ended."))
	t.duration, all[1] = m.Float64Histogram("latchkey.exchange.duration",
		metric.WithUnit("s"), buckets,
		metric.WithDescription("Time that the provider took for an exchange."))
	t.takeovers, all[2] = m.Int64Counter("latchkey.takeovers", metric.WithUnit("{exchange}"),
		metric.WithDescription("Exchanges under the lease of a holder that seemed dead."))
	t.lateSaves, all[3] = m.Int64Counter("latchkey.late_saves", metric.WithUnit("{exchange}"),
		metric.WithDescription("Successes that were saved when their time was over."))
	t.waits, all[4] = m.Float64Histogram("latchkey.wait.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("Time that the callers of one call waited for an exchange."))
	t.outages, all[5] = m.Int64Counter("latchkey.store.outages", metric.WithUnit("{outage}"),
		metric.WithDescription("Outages of the store."))
	t.available, all[6] = m.Int64Gauge("latchkey.store.available", metric.WithUnit("1"),
		metric.WithDescription("1, or 0 while the store does not answer."))
	return errors.Join(all[:]...)
}

func service(key credentials.Key) attribute.KeyValue {
	return attribute.String("latchkey.service", key.Service)
}

func errorType(of string) attribute.KeyValue { return attribute.String("error.type", of) }

// spanKey is where a context has the exchange's span. Without the key, the context's span is not
// the exchange's and must not be ended.
type spanKey struct{}

func spanOf(ctx context.Context) (span trace.Span, ok bool) {
	span, ok = ctx.Value(spanKey{}).(trace.Span)
	return span, ok
}

func (t *telemetry) exchangeBegan(ctx context.Context, e credentials.ExchangeInfo) context.Context {
	attributes := []attribute.KeyValue{
		service(e.Key),
		attribute.String("latchkey.trigger", string(e.Trigger)),
		attribute.String("latchkey.holder", e.Holder),
		attribute.String("latchkey.claim", e.Fence.Claim),
	}
	if t.accounts {
		attributes = append(attributes, attribute.String("latchkey.account", e.Key.Account))
	}
	if e.TookOver.By != "" {
		t.takeovers.Add(ctx, 1, metric.WithAttributes(service(e.Key)))
		attributes = append(attributes, attribute.String("latchkey.took_over", e.TookOver.By))
	}
	start := []trace.SpanStartOption{
		trace.WithTimestamp(e.Began), trace.WithAttributes(attributes...),
	}
	if e.Trigger == credentials.TriggerDue || e.Trigger == credentials.TriggerKeeper {
		start = append(start, trace.WithNewRoot())
		if caller := trace.SpanContextFromContext(ctx); caller.IsValid() {
			start = append(start, trace.WithLinks(trace.Link{SpanContext: caller}))
		}
	}
	ctx, span := t.tracer.Start(ctx, "exchange "+e.Key.Service, start...)
	return context.WithValue(ctx, spanKey{}, span)
}

func (t *telemetry) exchangeEnded(ctx context.Context, e credentials.ExchangeInfo) {
	outcome := attribute.String("latchkey.outcome", string(e.Outcome))
	trigger := attribute.String("latchkey.trigger", string(e.Trigger))
	attributes := []attribute.KeyValue{service(e.Key), trigger}
	failed := e.Outcome == credentials.OutcomeFailed || e.Outcome == credentials.OutcomeUnsaved
	if failed {
		attributes = append(attributes, failure(e.Err))
	}
	if e.Took > 0 {
		t.duration.Record(ctx, e.Took.Seconds(), metric.WithAttributes(attributes...))
	}
	t.exchanges.Add(ctx, 1, metric.WithAttributes(append(attributes, outcome)...))
	span, ok := spanOf(ctx)
	if !ok {
		return
	}
	span.SetAttributes(outcome)
	if failed {
		span.SetAttributes(failure(e.Err))
		span.SetStatus(codes.Error, t.description(e))
	}
	span.End(trace.WithTimestamp(e.Ended))
}

// description describes the failure. The text of its error names the account.
func (t *telemetry) description(e credentials.ExchangeInfo) string {
	var refused *credentials.RefreshError
	switch {
	case t.accounts:
		return e.Err.Error()
	case errors.As(e.Err, &refused) && refused.Code != "":
		return string(refused.Class) + " (" + refused.Code + ")"
	case e.Class != "":
		return string(e.Class)
	}
	return string(e.Outcome)
}

// failure is the attribute of an error: its class if it has one.
func failure(err error) attribute.KeyValue {
	var refused *credentials.RefreshError
	if errors.As(err, &refused) {
		return errorType(string(refused.Class))
	}
	return errorType("_OTHER")
}

func (t *telemetry) savedLate(ctx context.Context, e credentials.ExchangeInfo) {
	t.lateSaves.Add(ctx, 1, metric.WithAttributes(service(e.Key)))
	if span, ok := spanOf(ctx); ok {
		span.AddEvent("saved late")
	}
}

func (t *telemetry) callWaited(ctx context.Context, c credentials.CallInfo) {
	attributes := []attribute.KeyValue{service(c.Key)}
	if c.Err != nil {
		attributes = append(attributes, failure(c.Err))
	}
	t.waits.Record(ctx, c.Took.Seconds(), metric.WithAttributes(attributes...))
}

func (t *telemetry) storeDown(error) {
	t.outages.Add(context.Background(), 1)
	t.available.Record(context.Background(), 0)
}

func (t *telemetry) storeUp(time.Duration) { t.available.Record(context.Background(), 1) }
