package main

import (
	"fmt"
	"io"
)

// status is a line on the terminal that says what is going on. Where nobody watches it writes nothing.
type status struct {
	w io.Writer // nil: nobody watches
}

func newStatus(w io.Writer) *status {
	if !isTerminal(w) {
		w = nil
	}
	return &status{w: w}
}

// clearLine takes the cursor to the line's begin and erases what is there.
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
