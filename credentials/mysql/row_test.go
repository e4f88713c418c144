package mysql

import (
	"database/sql"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

func TestDurations(t *testing.T) {
	for _, test := range []struct {
		duration time.Duration
		micros   any
	}{
		{0, int64(0)},
		{time.Second, int64(1e6)},
		{-time.Second, int64(-1e6)},
		{1999 * time.Nanosecond, int64(1)}, // rounded down: nothing is taken for fresher than it is
		{credentials.Never, nil},
	} {
		if got := micros(test.duration); got != test.micros {
			t.Errorf("micros(%v): got %v, want %v", test.duration, got, test.micros)
		}
	}
	for _, test := range []struct {
		micros sql.NullInt64
		want   time.Duration
	}{
		{sql.NullInt64{}, credentials.Never},
		{sql.NullInt64{Int64: 1e6, Valid: true}, time.Second},
		{sql.NullInt64{Int64: -1, Valid: true}, -time.Microsecond},
		{sql.NullInt64{Int64: math.MaxInt64, Valid: true}, math.MaxInt64 / 1000 * 1000},
		{sql.NullInt64{Int64: math.MinInt64, Valid: true}, -math.MaxInt64 / 1000 * 1000},
	} {
		if got := orNever(test.micros); got != test.want {
			t.Errorf("orNever(%v): got %v, want %v", test.micros, got, test.want)
		}
	}
}

// TestBrokenExtra (invariant 14): no error quotes the column extra.
func TestBrokenExtra(t *testing.T) {
	for _, extra := range []string{`{"scope": hunter2}`, `{"hunter2": 7}`, `hunter2`, ``} {
		_, err := row{ID: 7, Service: "github", Extra: []byte(extra)}.credential()
		if err == nil || !strings.Contains(err.Error(), "github") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("extra %q: got error %v, want one that names the row and does not quote the column", extra, err)
		}
	}
}
