package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// maxRows keeps a table on one screen.
const maxRows = 20

// Text returns the report for people: a table, and the verdict below it.
func (r Report) Text() string {
	switch {
	case r.Faults != nil && r.Seed != 0:
		return chaosTable(r) + chaosVerdict(r)
	case r.Faults != nil:
		return accountTable(r) + roundsVerdict(r) + faultVerdict(r)
	case r.Renewals != nil:
		return accountTable(r) + lifetimesVerdict(r)
	}
	return accountTable(r) + roundsVerdict(r) +
		verdict(r, "one exchange for each expiry, and every caller got its committed token.")
}

func newTable(right ...int) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	columns := make([]table.ColumnConfig, len(right))
	for i, column := range right {
		columns[i] = table.ColumnConfig{
			Number: column, Align: text.AlignRight,
			AlignHeader: text.AlignRight, AlignFooter: text.AlignRight,
		}
	}
	t.SetColumnConfigs(columns)
	return t
}

// accountTable has a line for each account.
func accountTable(r Report) string {
	format := "%.1f"
	if r.Renewals != nil {
		format = "%.4f" // Most tokens come out of the cache.
	}
	ms := func(ms float64) string { return fmt.Sprintf(format, ms) }
	row := func(name string, calls, needed, reuse, ok, failed int, l Latency) table.Row {
		return table.Row{name, calls, needed, reuse, ok, failed, ms(l.P50), ms(l.P99), ms(l.Max)}
	}
	t := newTable(2, 3, 4, 5, 6, 7, 8, 9)
	t.AppendHeader(table.Row{
		"account", "calls", "needed", "reuse", "callers ok", "failed", "p50 ms", "p99 ms", "max ms",
	})
	shown := worstFirst(r.PerAccount)
	for _, a := range shown[:min(len(shown), maxRows)] {
		t.AppendRow(row(a.Account, a.Calls, a.Needed, a.ReuseDetected, a.CallersOK, a.CallersFailed,
			a.LatencyMS))
	}
	if more := len(shown) - maxRows; more > 0 {
		t.AppendRow(table.Row{fmt.Sprintf("and %d more", more)})
	}
	t.AppendFooter(row("all", r.Refreshes.Calls, r.Refreshes.Needed, r.Refreshes.ReuseDetected,
		r.CallersOK, r.CallersFailed, r.LatencyMS))
	return t.Render() + "\n"
}

// worstFirst has the accounts with a violation at the top, since the table may be cut; the others
// stay in order.
func worstFirst(accounts []Account) []Account {
	rank := func(a Account) int {
		if a.Calls != a.Needed || a.ReuseDetected > 0 || a.CallersFailed > 0 || a.MaxParallel > 1 {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(accounts),
		func(a, b Account) int { return cmp.Compare(rank(a), rank(b)) })
}

// chaosTable has the faults on the left, and the outcome on the right.
func chaosTable(r Report) string {
	faults := 0
	for _, n := range r.ProviderFaults {
		faults += n
	}
	t := newTable(2, 4)
	t.AppendHeader(table.Row{"done to them", "", "what came of it", ""})
	t.AppendRows([]table.Row{
		{"processes killed", r.Kills, "callers with a token", r.CallersOK},
		{"processes paused", r.Pauses, "callers with a typed error", r.CallersFailed},
		{"server restarts", r.Restarts, "exchanges", r.Refreshes.Calls},
		{"server outages", r.Outages, "… of unknown outcome", r.UnknownOutcomes},
		{"provider faults", faults, "… without a reason", r.Refreshes.Duplicates},
		{"grants withdrawn", r.Withdrawals, "live claims at once", r.MaxLiveClaims},
		{"grants replaced", r.Replacements, "tokens lost", r.TokensLost},
		{"grants put again", r.Reauthorizations, "… with their holder, or answer",
			fmt.Sprintf("%d, %d", r.LostWithHolder, r.LostWithAnswer)},
	})
	return t.Render() + "\n"
}

// classes lists numbers by class.
func classes(numbers map[string]int) string {
	if len(numbers) == 0 {
		return "none"
	}
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(numbers)) {
		parts = append(parts, fmt.Sprintf("%d %s", numbers[class], class))
	}
	return strings.Join(parts, ", ")
}

// count writes a number of things, whose noun it puts in the plural.
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
