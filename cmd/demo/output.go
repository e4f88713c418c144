package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
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

// note writes a line to stderr: what goes on, never a result.
func note(cmd *cli.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.Root().ErrWriter, format+"\n", args...)
}

// show returns the secret's text if it is to be revealed, else "[redacted]"; "" for none.
func show(secret credentials.Secret, reveal bool) string {
	if reveal {
		return secret.Reveal()
	}
	return secret.String()
}

// count writes "1 round", "2 rounds", "2 processes".
func count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ss"):
		noun += "es"
	default:
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

// in writes when something happens, or happened, for people.
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

// isTerminal reports whether somebody watches what is written to w.
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
