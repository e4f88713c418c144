package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/credentials"
)

// maxRows keeps a table on one screen.
const maxRows = 20

// emit writes the command's result to stdout: as one JSON object with --json, else as the lines.
func emit(cmd *cli.Command, object any, lines func() string) error {
	out := cmd.Root().Writer
	if !cmd.Bool("json") {
		_, err := fmt.Fprint(out, lines())
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(object)
}

// logOf is the command's log, on stderr.
func logOf(cmd *cli.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.Root().ErrWriter, nil))
}

// note writes a line to stderr: progress, never a result.
func note(cmd *cli.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.Root().ErrWriter, format+"\n", args...)
}

// show returns the secret's text if it is to be revealed, else "[redacted]"; "" for none.
func show(secret credentials.Secret, reveal bool) string {
	if reveal {
		return secret.Reveal()
	}
	return fmt.Sprint(secret)
}

// count writes "1 time", "2 times".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// span writes a length of time for people.
func span(d time.Duration) string {
	if d.Abs() < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// in writes for people how far away a time is, in the future or in the past.
func in(d time.Duration) string {
	switch {
	case d == credentials.Never:
		return "never"
	case d > 0:
		return "in " + span(d)
	}
	return span(-d) + " ago"
}

// seconds is a duration in JSON; absent for one that never ends.
func seconds(d time.Duration) *float64 {
	if d == credentials.Never {
		return nil
	}
	s := d.Seconds()
	return &s
}

// isTerminal reports whether w is a terminal, at which somebody watches.
func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && !os.SameFile(info, null)
}

// status is a line on the terminal that shows the progress. Off a terminal it writes nothing.
type status struct {
	w io.Writer // nil: no terminal
}

func newStatus(w io.Writer) *status {
	if !isTerminal(w) {
		w = nil
	}
	return &status{w: w}
}

// clearLine takes the cursor to the line's beginning and erases the line.
const clearLine = "\r\x1b[K"

func (s *status) show(doing string) {
	if s.w != nil {
		_, _ = fmt.Fprintf(s.w, "%s%s …", clearLine, doing)
	}
}

func (s *status) clear() {
	if s.w != nil {
		_, _ = fmt.Fprint(s.w, clearLine)
	}
}

// Of one message, maxLines are written in linesEvery: a provider that fails does so for thousands
// of credentials.
const (
	maxLines   = 10
	linesEvery = 10 * time.Second
)

// fewLines returns a logger for errors, which says how many lines it leaves out. It has no lines of
// single exchanges, which are counted elsewhere.
func fewLines(w io.Writer) *slog.Logger {
	lines := &seenLines{windows: make(map[string]*lineWindow)}
	return slog.New(&fewHandler{Handler: slog.NewTextHandler(w, nil), seen: lines})
}

type fewHandler struct {
	slog.Handler
	seen *seenLines // shared with those that WithAttrs and WithGroup make
}

type seenLines struct {
	mu      sync.Mutex
	windows map[string]*lineWindow // by message; guarded by mu
}

// lineWindow is a stretch of linesEvery in which one message is counted.
type lineWindow struct {
	begun   time.Time
	written int
	omitted int // since the last line that was written
}

func (h *fewHandler) Handle(ctx context.Context, r slog.Record) error {
	omitted, ok := h.seen.admit(r.Message, r.Time)
	if !ok || strings.HasPrefix(r.Message, "exchange ") {
		return nil
	}
	if omitted > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("like_it_left_out", omitted))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *fewHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &fewHandler{Handler: h.Handler.WithAttrs(attrs), seen: h.seen}
}

func (h *fewHandler) WithGroup(name string) slog.Handler {
	return &fewHandler{Handler: h.Handler.WithGroup(name), seen: h.seen}
}

// admit reports whether a line with that message may be written, and how many were omitted since
// the last one.
func (s *seenLines) admit(message string, at time.Time) (omitted int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.windows[message]
	if w == nil {
		w = &lineWindow{}
		s.windows[message] = w
	}
	if at.Sub(w.begun) >= linesEvery {
		w.begun, w.written = at, 0
	}
	if w.written == maxLines {
		w.omitted++
		return 0, false
	}
	omitted, w.omitted = w.omitted, 0
	w.written++
	return omitted, true
}
