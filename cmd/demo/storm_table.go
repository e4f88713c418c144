package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// stormTable is the report for people: a line for each account, then the verdict.
func stormTable(r storm.Report) string {
	if r.Faults != nil && r.Faults.Seed != 0 {
		return chaosTable(r)
	}
	ms := tenths
	if r.Renewals != nil {
		ms = tenThousandths // most tokens come out of the cache
	}
	row := func(name string, calls, needed, reuse, ok, failed int, l storm.Latency) table.Row {
		return table.Row{name, calls, needed, reuse, ok, failed, ms(l.P50), ms(l.P99), ms(l.Max)}
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	t.AppendHeader(table.Row{"account", "calls", "needed", "reuse", "callers ok", "failed", "p50 ms", "p99 ms", "max ms"})
	right := make([]table.ColumnConfig, 0, 8)
	for column := 2; column <= 9; column++ {
		right = append(right, table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight})
	}
	t.SetColumnConfigs(right)

	shown := worstFirst(r.PerAccount)
	for _, a := range shown[:min(len(shown), maxRows)] {
		t.AppendRow(row(a.Account, a.Calls, a.Needed, a.ReuseDetected, a.CallersOK, a.CallersFailed, a.LatencyMS))
	}
	if more := len(shown) - maxRows; more > 0 {
		t.AppendRow(table.Row{fmt.Sprintf("and %d more", more)})
	}
	t.AppendFooter(row("all", r.Refreshes.Calls, r.Refreshes.Needed, r.Refreshes.ReuseDetected, r.CallersOK, r.CallersFailed, r.LatencyMS))

	return t.Render() + "\n" + verdict(r)
}

func tenths(ms float64) string         { return fmt.Sprintf("%.1f", ms) }
func tenThousandths(ms float64) string { return fmt.Sprintf("%.4f", ms) }

// worstFirst has the accounts at which something broke at the top, since the table may be cut; the others stay in
// order.
func worstFirst(accounts []storm.Account) []storm.Account {
	broken := func(a storm.Account) int {
		if a.Calls != a.Needed || a.ReuseDetected > 0 || a.CallersFailed > 0 || a.MaxParallel > 1 {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(accounts), func(a, b storm.Account) int { return cmp.Compare(broken(a), broken(b)) })
}

// verdict is the storm in a few sentences.
func verdict(r storm.Report) string {
	if r.Renewals != nil {
		return lifetimesVerdict(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s × %s × %s × %s on %s: %s, %s, up to %s at the same moment.\n",
		count(r.Processes, "process"), count(r.Threads, "thread"), count(r.Accounts, "account"), count(r.Rounds, "round"), r.Server,
		count(r.Callers, "caller"), count(r.Refreshes.Calls, "exchange"), count(r.Refreshes.MaxParallelAccounts, "account"))
	fmt.Fprintf(&b, "The slowest caller waited %.1f ms, of which the endpoint took %.1f. Connections held during an exchange: %d.\n",
		r.LatencyMS.Max, r.EndpointLatencyMS, r.HeldConnections.Max)
	good := "one exchange for each expiry, and every caller got its committed token."
	if r.Faults != nil {
		b.WriteString(whatHappened(r))
		good = "nothing was lost that could be kept, and every caller that lived got a committed token or was told why not."
	}
	return b.String() + okOrBroken(r, good)
}

func okOrBroken(r storm.Report, good string) string {
	if r.OK {
		return "OK: " + good + "\n"
	}
	return "BROKEN:\n  - " + strings.Join(r.Violations, "\n  - ") + "\n"
}
