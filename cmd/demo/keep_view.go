package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

const (
	viewEvery = time.Second
	logEvery  = 10 * time.Second
	paceOver  = 10 * time.Second
	dueWithin = 5 * time.Second // bounds the question to the store of what is due
)

// Escape sequences of terminals. A line that wrapped would take up two, so lines do not wrap.
const (
	upLines    = "\x1b[%dA\r" // to the first of so many
	clearRest  = "\x1b[K"     // of the line
	clearBelow = "\x1b[J"     // from the cursor on
	wrapOff    = "\x1b[?7l"
	wrapOn     = "\x1b[?7h"
)

// keepView shows how the keeper is doing: on a terminal as a table that stays in place below the
// log's lines, else as lines of the log.
type keepView struct {
	w        io.Writer
	terminal bool
	services credentials.Services
	stats    func() map[string]credentials.KeeperStats
	due      func(context.Context) (map[string]time.Duration, error)
	log      *slog.Logger

	// Used by watch alone:
	renewals []renewals             // of the last paceOver, and the one before
	logged   map[string]loggedStats // the last line of the log about each service

	mu    sync.Mutex
	drawn []string // the lines on the terminal; guarded by mu
}

// renewals are the numbers of credentials of each service that had been renewed at a time.
type renewals struct {
	at     time.Time
	number map[string]int
}

type loggedStats struct {
	at    time.Time
	stats credentials.KeeperStats
}

func newKeepView(w io.Writer, services credentials.Services) *keepView {
	return &keepView{
		w: w, terminal: isTerminal(w), services: services, logged: make(map[string]loggedStats),
	}
}

// watch looks once a second, until ctx ends.
func (v *keepView) watch(ctx context.Context) {
	ticker := time.NewTicker(viewEvery)
	defer ticker.Stop()
	for {
		v.look(ctx, time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (v *keepView) look(ctx context.Context, now time.Time) {
	stats := v.stats()
	v.remember(stats, now)
	if v.terminal {
		v.draw(v.table(stats, v.dueNow(ctx)))
		return
	}
	var changed []shownStats
	for _, s := range listStats(v.services, stats) {
		is, last := stats[s.Service], v.logged[s.Service]
		is.Exchanging = 0 // changes all the time
		if is != last.stats && now.Sub(last.at) >= logEvery {
			v.logged[s.Service] = loggedStats{now, is}
			changed = append(changed, s)
		}
	}
	if len(changed) == 0 {
		return
	}
	due := v.dueNow(ctx)
	for _, s := range changed {
		v.log.InfoContext(ctx, "keep", "service", s.Service, "renewed", s.Renewed,
			"per_second", v.pace(s.Service), "failed", s.Failed, "dead", s.Dead,
			"exchanging", s.Exchanging, "state", stateOf(s, due))
	}
}

// remember notes how many are renewed, for pace.
func (v *keepView) remember(stats map[string]credentials.KeeperStats, now time.Time) {
	r := renewals{at: now, number: make(map[string]int, len(stats))}
	for name, s := range stats {
		r.number[name] = s.Renewed
	}
	v.renewals = append(v.renewals, r)
	for len(v.renewals) > 2 && now.Sub(v.renewals[1].at) >= paceOver {
		v.renewals = v.renewals[1:]
	}
}

// pace is how many were renewed per second lately.
func (v *keepView) pace(service string) string {
	first, last := v.renewals[0], v.renewals[len(v.renewals)-1]
	passed := last.at.Sub(first.at).Seconds()
	if passed == 0 {
		return "0.0"
	}
	return fmt.Sprintf("%.1f", float64(last.number[service]-first.number[service])/passed)
}

// dueNow asks the store what is due. It returns nil if the store fails, which the keeper logs.
func (v *keepView) dueNow(ctx context.Context) map[string]time.Duration {
	ctx, cancel := context.WithTimeout(ctx, dueWithin)
	defer cancel()
	due, err := v.due(ctx)
	if err != nil {
		return nil
	}
	return due
}

// table is a line for each service, under a head.
func (v *keepView) table(
	stats map[string]credentials.KeeperStats, due map[string]time.Duration,
) []string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(out, "service\trenewed\tper second\tfailed\tdead\texchanging\tstate\n")
	list := listStats(v.services, stats)
	for _, s := range list[:min(len(list), maxRows)] {
		_, _ = fmt.Fprintf(out, "%s\t%d\t%s\t%d\t%d\t%d\t%s\n", s.Service, s.Renewed,
			v.pace(s.Service), s.Failed, s.Dead, s.Exchanging, stateOf(s, due))
	}
	_ = out.Flush() // to a strings.Builder
	if more := len(list) - maxRows; more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// stateOf says in words how the service is doing.
func stateOf(s shownStats, due map[string]time.Duration) string {
	var state []string
	if s.Unknown {
		state = append(state, "not known here")
	}
	if s.Down {
		state = append(state, "provider down")
	}
	if s.MassDeath {
		state = append(state, massDeath)
	}
	dueIn, some := due[s.Service]
	switch {
	case due == nil:
		state = append(state, "what is due is not known")
	case !some:
		state = append(state, "no credentials to renew")
	case dueIn > 0:
		state = append(state, "next due "+in(dueIn))
	case dueIn > -time.Second:
		state = append(state, "due now")
	default:
		state = append(state, "due for "+span(-dueIn))
	}
	return strings.Join(state, ", ")
}

// draw replaces the table.
func (v *keepView) draw(lines []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rewrite("", lines)
}

// Write writes lines above the table.
func (v *keepView) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.terminal {
		return v.w.Write(p)
	}
	v.rewrite(string(p), v.drawn)
	return len(p), nil
}

// clear removes the table.
func (v *keepView) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.drawn) > 0 {
		v.rewrite("", nil)
	}
}

// rewrite replaces the table by text and a table. mu is held.
func (v *keepView) rewrite(text string, table []string) {
	var b strings.Builder
	if n := len(v.drawn); n > 0 {
		fmt.Fprintf(&b, upLines, n)
	}
	if text != "" {
		b.WriteString(clearBelow + text) // whole lines
	}
	b.WriteString(wrapOff)
	for _, line := range table {
		b.WriteString(line + clearRest + "\n")
	}
	b.WriteString(wrapOn + clearBelow)
	_, _ = io.WriteString(v.w, b.String()) // in one piece, so that nothing flickers
	v.drawn = table
}
