package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log handler that keeps the lines, each with the time since it was made.
type lines struct {
	slog.Handler
	began time.Time
	mu    sync.Mutex
	all   []string
}

func (h *lines) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	line := regexp.MustCompile(`^time=\S+ `).ReplaceAllString(strings.TrimSpace(string(p)), "")
	h.all = append(h.all, fmt.Sprintf("%v %s", time.Since(h.began), line))
	return len(p), nil
}

// written returns the lines so far.
func (h *lines) written() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// are fails the test unless those are the lines, and forgets them.
func (h *lines) are(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(h.written(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got lines\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = nil
}

func newBoundedLog() (*boundedLog, *lines) {
	h := &lines{began: time.Now()}
	return &boundedLog{logger: slog.New(slog.NewTextHandler(h, nil))}, h
}

// The first line is written at once, and those that follow within a second are one line with a
// count and an example.
func TestBoundedLogSumsUpASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := newBoundedLog()
		say := func(n int) {
			for i := range n {
				l.warn(t.Context(), "github", "trouble", "credential", i)
			}
		}
		say(1000)
		l.warn(t.Context(), "xero", "trouble", "credential", "c")
		l.log(t.Context(), slog.LevelError, "", "another", "error", errors.New("e"))
		lines.are(t,
			"0s level=WARN msg=trouble service=github credential=0",
			"0s level=WARN msg=trouble service=xero credential=c",
			"0s level=ERROR msg=another error=e")
		time.Sleep(1500 * time.Millisecond)
		lines.are(t, "1s level=WARN msg=trouble service=github credential=999 count=999")
		say(1) // half a second after the sum
		lines.are(t)
		time.Sleep(2500 * time.Millisecond)
		lines.are(t, "2s level=WARN msg=trouble service=github credential=0 count=1")
		say(2) // after a second without
		lines.are(t, "4s level=WARN msg=trouble service=github credential=0")
		l.flush()
		lines.are(t, "4s level=WARN msg=trouble service=github credential=1 count=1")
	})
}

// A trouble that lasts is one line a second, and the counts are right.
func TestBoundedLogOfATroubleThatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := newBoundedLog()
		var credentials sync.WaitGroup
		for range 50 {
			credentials.Go(func() {
				for range 1000 {
					l.warn(t.Context(), "github", "trouble")
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		credentials.Wait()
		l.flush()
		sum := 0
		all := lines.written()
		for _, line := range all {
			n := 1
			if _, count, ok := strings.Cut(line, "count="); ok {
				_, _ = fmt.Sscan(count, &n)
			}
			sum += n
		}
		if len(all) > 11 || sum != 50_000 {
			t.Errorf("%d lines that speak of %d troubles, want 11 of 50000", len(all), sum)
		}
	})
}

// However many services there are, the lines of a second are bounded.
func TestBoundedLogOfManyServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := newBoundedLog()
		for i := range 10 * maxTroubles {
			l.warn(t.Context(), fmt.Sprintf("tenant-%d", i), "trouble")
		}
		if n := len(lines.written()); n != maxTroubles+1 {
			t.Errorf("%d lines at once, want %d", n, maxTroubles+1)
		}
		time.Sleep(time.Second)
		all := lines.written()
		if n := len(all); n != maxTroubles+2 || !strings.Contains(all[n-1], "count=575") {
			t.Errorf("%d lines, want one more for all the others; the last is %s", n, all[n-1])
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(l.troubles) != 0 {
			t.Errorf("%d troubles are remembered", len(l.troubles))
		}
	})
}

// A handler may be slow, and may cause a line itself: a trouble waits for no other, and has one
// line under way at most.
func TestBoundedLogWithASlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := newBoundedLog()
		h := &slowHandler{Handler: l.logger.Handler(), log: l}
		l.logger = slog.New(h)
		go l.warn(t.Context(), "slow", "trouble")
		synctest.Wait()
		l.warn(t.Context(), "github", "trouble")
		for range 20 {
			l.warn(t.Context(), "slow", "trouble")
			time.Sleep(time.Second)
		}
		h.quiet.Store(true)
		time.Sleep(time.Minute)
		if all := lines.written(); all[0] != "0s level=WARN msg=trouble service=github" {
			t.Errorf("the other service's line waited: %q", all)
		}
		if h.most > 2 { // the first one, which was written at once, and a sum
			t.Errorf("%d lines about one trouble are under way", h.most)
		}
	})
}

// slowHandler takes long for the lines of the service slow.
type slowHandler struct {
	slog.Handler
	log   *boundedLog
	quiet atomic.Bool // it causes no lines any more

	mu          sync.Mutex
	under, most int
}

func (h *slowHandler) Handle(ctx context.Context, r slog.Record) error {
	slow := false
	r.Attrs(func(a slog.Attr) bool {
		slow = slow || a.Value.String() == "slow"
		return true
	})
	if slow {
		h.mu.Lock()
		h.under++
		h.most = max(h.most, h.under)
		h.mu.Unlock()
		if !h.quiet.Load() {
			h.log.warn(ctx, "slow", "trouble")
		}
		time.Sleep(5 * time.Second)
		h.mu.Lock()
		h.under--
		h.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

// Close flushes the log: the sums are written, and no timer runs. A late line is written all the
// same.
func TestBoundedLogFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := newBoundedLog()
		for range 3 {
			l.warn(t.Context(), "github", "trouble")
		}
		l.flush()
		l.flush()
		lines.are(t, "0s level=WARN msg=trouble service=github", "0s level=WARN msg=trouble service=github count=2")
		time.Sleep(time.Minute)
		l.warn(t.Context(), "github", "trouble")
		l.warn(t.Context(), "github", "trouble")
		time.Sleep(time.Minute)
		lines.are(t, "1m0s level=WARN msg=trouble service=github", "1m1s level=WARN msg=trouble service=github count=1")
	})
}
