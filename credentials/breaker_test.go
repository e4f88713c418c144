package credentials

import (
	"testing"
	"time"
)

// failRow counts that many failures in a row at that time.
func (b *breaker) failRow(n int, at moment, wait time.Duration) (opened bool) {
	for range n {
		opened = b.failed(setback{now: at, wait: wait})
	}
	return opened
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	var b breaker
	b.failRow(breakerThreshold-1, 0, 0)
	b.succeeded()
	if b.failRow(breakerThreshold-1, 0, 0) {
		t.Error("it has opened, and not so many failed in a row")
	}
	if !b.failRow(1, moment(time.Minute), 0) {
		t.Fatal("it has not opened")
	}
	if n, wait := b.allows(16, 0, moment(time.Minute)); n != 0 || wait < minProbe || wait > 2*minProbe {
		t.Errorf("open: %d are let through, wait %v", n, wait)
	}
	if n, _ := b.allows(16, 0, b.probeAt); n != 1 {
		t.Errorf("half-open: %d are let through, want the probe alone", n)
	}
	if n, wait := b.allows(16, 1, b.probeAt); n != 0 || wait != Never {
		t.Errorf("while the probe is under way: %d are let through, wait %v", n, wait)
	}
	if !b.succeeded() || b.succeeded() {
		t.Error("a success is the one that closes it, and the next one is not")
	}
	if n, _ := b.allows(16, 3, moment(time.Minute)); n != 16 {
		t.Errorf("closed: %d are let through", n)
	}
}

// The probe interval grows, also under a provider that says "Retry-After: 1" for ever, and what it
// says is heeded.
func TestBreakerProbeIntervalGrows(t *testing.T) {
	for _, test := range []struct {
		name     string
		wait     time.Duration
		costly   bool
		min, max time.Duration // of ten probes; without growth they take less than min
	}{
		{"it says nothing", 0, false, 20 * time.Second, 250 * time.Second},
		{"it says a second", time.Second, false, 20 * time.Second, 250 * time.Second},
		{"it says a minute", time.Minute, false, 441 * time.Second, 443 * time.Second},
		{"it says a day", 24 * time.Hour, false, 1841 * time.Second, 1843 * time.Second},
		{"each may cost a grant", 0, true, 20 * time.Minute, 10 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b breaker
			b.failRow(breakerThreshold-1, 0, test.wait)
			b.failed(setback{wait: test.wait, costly: test.costly})
			for range 9 {
				b.failed(setback{now: b.probeAt, probe: true, wait: test.wait, costly: test.costly})
			}
			if took := b.probeAt.sub(0); took < test.min || took > test.max {
				t.Errorf("ten probes take %v, want %v to %v", took, test.min, test.max)
			}
		})
	}
}

// What was under way when the breaker opened is no probe, and makes the next one no later.
func TestBreakerIgnoresWhatWasUnderWay(t *testing.T) {
	var b breaker
	b.failRow(breakerThreshold, moment(time.Minute), 0)
	at := b.probeAt
	b.failed(setback{now: moment(2 * time.Minute), wait: time.Hour, costly: true})
	if b.probeAt != at {
		t.Errorf("the next probe moved from %v to %v", at, b.probeAt)
	}
}

// An account that had failed before says nothing of others, unless each try may cost a grant.
func TestBreakerCountsAccountsThatHadSucceeded(t *testing.T) {
	for _, test := range []struct {
		name string
		one  setback
		want bool
	}{
		{"accounts that had succeeded", setback{}, true},
		{"accounts that had failed before", setback{known: true}, false},
		{"the same, and each may cost a grant", setback{known: true, costly: true}, true},
	} {
		var b breaker
		opened := false
		for range 20 {
			opened = b.failed(test.one) || opened
		}
		if opened != test.want || b.open != test.want {
			t.Errorf("%s: opened %t, want %t", test.name, opened, test.want)
		}
	}
}

// A Retry-After counts for the service where all accounts in the row got one, and the more of it
// the more they are.
func TestBreakerHeedsARetryAfterOfAll(t *testing.T) {
	const hour = time.Hour
	for _, test := range []struct {
		name     string
		waits    []time.Duration
		min, max time.Duration // until the next probe
	}{
		{"five are told an hour", []time.Duration{hour, hour, hour, hour, hour}, time.Second, 2 * time.Second},
		{"so is the probe", []time.Duration{hour, hour, hour, hour, hour, hour}, 4 * time.Second, 4 * time.Second},
		{"so are three", []time.Duration{hour, hour, hour, hour, hour, hour, hour, hour}, 64 * time.Second, 64 * time.Second},
		{"one was told nothing", []time.Duration{hour, hour, 0, hour, hour, hour, hour, hour}, time.Second, 9 * time.Second},
		{"one was told half a minute", []time.Duration{hour, hour, 30 * time.Second, hour, hour, hour, hour, hour}, 30 * time.Second, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b breaker
			now := moment(0)
			for _, wait := range test.waits {
				now = max(now, b.probeAt)
				b.failed(setback{now: now, probe: b.open, wait: wait})
			}
			if wait := b.probeAt.sub(now); wait < test.min || wait > test.max {
				t.Errorf("the next probe is in %v, want %v to %v", wait, test.min, test.max)
			}
		})
	}
}

// Three accounts that are declared dead in a row are believed, and are an incident; then none is
// believed until a success.
func TestBreakerBelievesSoManyDeaths(t *testing.T) {
	var b breaker
	die := func(account string, wantBelieved, wantOpened bool) {
		t.Helper()
		at := b.probeAt
		if believed, opened := b.died(account, setback{now: at, probe: b.open}); believed != wantBelieved || opened != wantOpened {
			t.Errorf("%s dies: believed %t, opened %t; want %t, %t", account, believed, opened, wantBelieved, wantOpened)
		}
	}
	die("a", true, false)
	die("b", true, false)
	b.succeeded()
	die("a", true, false)
	die("b", true, false)
	b.failed(setback{})   // is no success
	die("b", true, false) // is no other account
	die("c", true, true)
	for range 10 {
		die("d", false, false)
	}
	if n, wait := b.allows(16, 0, b.probeAt-1); n != 0 || wait != 1 || b.probes != 10 {
		t.Errorf("before the next probe, after %d: %d are let through, wait %v", b.probes, n, wait)
	}
	if !b.succeeded() || b.massDeath() {
		t.Error("a success is no end of it")
	}
	die("d", true, false)
}

// A provider that is down, and calls grants dead when it is back: the first three are believed.
func TestBreakerDeathsWhileOpen(t *testing.T) {
	var b breaker
	b.failRow(breakerThreshold, 0, 0)
	for i, account := range []string{"a", "b", "c", "d"} {
		believed, opened := b.died(account, setback{now: b.probeAt, probe: true})
		if believed != (i < massDeath) || opened != (i == massDeath-1) || !b.open || b.probes != i+1 {
			t.Errorf("%s: believed %t, opened %t, %d probes", account, believed, opened, b.probes)
		}
	}
}
