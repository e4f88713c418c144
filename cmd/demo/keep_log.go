package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Of one message, mostLines are written in linesEvery: when a provider fails, it fails for thousands of credentials.
const (
	mostLines  = 10
	linesEvery = 10 * time.Second
)

// fewLines returns a logger for what goes wrong, which says what it leaves out.
func fewLines(w io.Writer) *slog.Logger {
	return slog.New(&fewHandler{Handler: slog.NewTextHandler(w, nil), seen: &seenLines{of: make(map[string]*window)}})
}

type fewHandler struct {
	slog.Handler
	seen *seenLines // shared with those that WithAttrs and WithGroup make
}

type seenLines struct {
	mu sync.Mutex
	of map[string]*window // by message; guarded by mu
}

type window struct {
	begun         time.Time
	written, left int
}

func (h *fewHandler) Handle(ctx context.Context, r slog.Record) error {
	left, ok := h.seen.admit(r.Message, r.Time)
	if !ok {
		return nil
	}
	if left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("like_it_left_out", left))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *fewHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &fewHandler{Handler: h.Handler.WithAttrs(attrs), seen: h.seen}
}

func (h *fewHandler) WithGroup(name string) slog.Handler {
	return &fewHandler{Handler: h.Handler.WithGroup(name), seen: h.seen}
}

// admit reports whether a line with that message may be written, and how many were not since the last one that was.
func (s *seenLines) admit(message string, at time.Time) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.of[message]
	if w == nil {
		w = &window{}
		s.of[message] = w
	}
	if at.Sub(w.begun) >= linesEvery {
		w.begun, w.written = at, 0
	}
	if w.written == mostLines {
		w.left++
		return 0, false
	}
	left, w.left = w.left, 0
	w.written++
	return left, true
}
