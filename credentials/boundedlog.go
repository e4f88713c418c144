package credentials

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// logPeriod is the least time between two lines about the same trouble.
	logPeriod = time.Second

	// maxTroubles is how many troubles have a line of their own within logPeriod. Tenants may each
	// have a service; beyond that number a line speaks for many services.
	maxTroubles = 64
)

// boundedLog is the log as a manager uses it for the troubles that many credentials may have at the
// same time. The first line about a trouble is written at once. The further ones within logPeriod
// are summed up in one line, which has their count and the attributes of the last of them. Nothing
// is written under a lock, and a timer runs only while a trouble is younger than logPeriod.
type boundedLog struct {
	logger *slog.Logger

	mu       sync.Mutex
	troubles map[trouble]*unwritten
}

// trouble tells the lines that are summed up from others.
type trouble struct{ service, text string }

// unwritten is the lines about one trouble since the last one that was written.
type unwritten struct {
	count int
	last  line
	timer *time.Timer
}

// line is one line of the log.
type line struct {
	ctx   context.Context
	level slog.Level
	text  string
	args  []any
}

// warn logs a trouble at warn level; see log.
func (l *boundedLog) warn(ctx context.Context, service, text string, args ...any) {
	l.log(ctx, slog.LevelWarn, service, text, args...)
}

// log logs a trouble of a service, or of all services under the empty name. The text is a constant:
// lines of one service and one text are about the same trouble.
func (l *boundedLog) log(ctx context.Context, level slog.Level, service, text string, args ...any) {
	var attrs []any
	if service != "" {
		attrs = []any{"service", service}
	}
	this := line{context.WithoutCancel(ctx), level, text, append(attrs, args...)}
	if l.first(trouble{service, text}, this) {
		this.write(l.logger)
	}
}

// first reports whether the line is to be written at once. Any other is kept for the sum.
func (l *boundedLog) first(t trouble, this line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.troubles[t]
	if u == nil && len(l.troubles) >= maxTroubles {
		t.service = ""
		u = l.troubles[t]
	}
	if u != nil {
		u.count, u.last = u.count+1, this
		return false
	}
	u = &unwritten{}
	u.timer = time.AfterFunc(logPeriod, func() { l.periodEnds(t, u) })
	if l.troubles == nil {
		l.troubles = make(map[trouble]*unwritten)
	}
	l.troubles[t] = u
	return true
}

// periodEnds writes the sum, and forgets a trouble of which nothing came within the period. The
// next period begins when the sum is written.
func (l *boundedLog) periodEnds(t trouble, u *unwritten) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, more := u.take()
	if more {
		l.mu.Unlock()
		sum.write(l.logger)
		l.mu.Lock()
	}
	switch {
	case l.troubles[t] != u: // flushed
	case more:
		u.timer.Reset(logPeriod)
	default:
		delete(l.troubles, t)
	}
}

// flush writes the sums that are left, and ends the timers. Close calls it last; a line that comes
// still later has a timer of its own, for a second.
func (l *boundedLog) flush() {
	l.mu.Lock()
	var sums []line
	for _, u := range l.troubles {
		u.timer.Stop()
		if sum, more := u.take(); more {
			sums = append(sums, sum)
		}
	}
	l.troubles = nil
	l.mu.Unlock()
	for _, sum := range sums {
		sum.write(l.logger)
	}
}

// take returns the sum of the lines that were not written, if there are any.
func (u *unwritten) take() (sum line, more bool) {
	sum, more = u.last, u.count > 0
	sum.args = append(sum.args, "count", u.count)
	u.count, u.last = 0, line{}
	return sum, more
}

func (l line) write(logger *slog.Logger) { logger.Log(l.ctx, l.level, l.text, l.args...) }
