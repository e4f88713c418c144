package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/latchkey-go/latchkey/internal/storm"
)

// whatHappened is what a targeted fault did and what came of it, in two sentences.
func whatHappened(r storm.Report) string {
	f := r.Faults
	var done string
	switch {
	case f.Kills > 0:
		done = fmt.Sprintf("%s killed (%s) with %s", count(f.Kills, "process"), f.Fault, count(f.CallersKilled, "caller"))
	case f.Pauses > 0:
		done = fmt.Sprintf("%s paused until after the lease's end", count(f.Pauses, "process"))
	case f.Restarts > 0:
		done = fmt.Sprintf("%s of the server (%s)", count(f.Restarts, "restart"), f.Fault)
	default:
		return "Nothing went wrong: no holder got as far as the fault.\n"
	}
	return fmt.Sprintf("%s; %s of unknown outcome, %s, %s. Errors that callers were told: %s.\n",
		done, count(f.UnknownOutcomes, "exchange"), count(f.Replays, "replay"), lostGrants(f), classes(f.Errors))
}

// lostGrants says how many grants are gone, and that a provider which revokes on reuse has its part in it.
func lostGrants(f *storm.Faults) string {
	switch {
	case f.TokensLost+f.LostWithHolder+f.LostWithAnswer == 0:
		return "no grant lost"
	case f.TokensLost > 0:
		return fmt.Sprintf("%d GRANTS LOST, %d more with their holder, %d with the answer", f.TokensLost, f.LostWithHolder, f.LostWithAnswer)
	}
	return fmt.Sprintf("%s lost with the holder that was killed and %d with the provider's answer, as nobody else ever had them",
		count(f.LostWithHolder, "grant"), f.LostWithAnswer)
}

// classes writes the numbers of errors by class.
func classes(errors map[string]int) string {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(errors)) {
		parts = append(parts, fmt.Sprintf("%d %s", errors[class], class))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// chaosTable is the report of a chaos for people: what was done on the left, what came of it on the right, the verdict
// below.
func chaosTable(r storm.Report) string {
	f := r.Faults
	faults := 0
	for _, n := range f.ProviderFaults {
		faults += n
	}
	history := "breaks the rules"
	if f.History.OK {
		history = "is explained"
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, Align: text.AlignRight}, {Number: 4, Align: text.AlignRight}})
	t.AppendHeader(table.Row{"done to them", "", "what came of it", ""})
	t.AppendRow(table.Row{"processes killed", f.Kills, "callers with a token", r.CallersOK})
	t.AppendRow(table.Row{"processes paused", f.Pauses, "callers with a typed error", r.CallersFailed})
	t.AppendRow(table.Row{"server restarts", f.Restarts, "exchanges", r.Refreshes.Calls})
	t.AppendRow(table.Row{"provider faults", faults, "… of unknown outcome", f.UnknownOutcomes})
	t.AppendRow(table.Row{"grants withdrawn", f.Withdrawals, "… without a reason", r.Refreshes.Duplicates})
	t.AppendRow(table.Row{"grants replaced", f.Replacements, "live claims at once", f.MaxLiveClaims})
	t.AppendRow(table.Row{"grants put again", f.Reauthorizations, "tokens lost", f.TokensLost})
	t.AppendRow(table.Row{"", "", "… with their holder, or answer", fmt.Sprintf("%d, %d", f.LostWithHolder, f.LostWithAnswer)})

	var b strings.Builder
	b.WriteString(t.Render())
	fmt.Fprintf(&b, "\n%v of chaos (seed %d) for %s × %s × %s on %s. The history of %d operations %s.\n",
		time.Duration(f.DurationMS*float64(time.Millisecond)), f.Seed, count(r.Processes, "process"), count(r.Threads, "thread"),
		count(r.Accounts, "account"), r.Server, f.History.Operations, history)
	fmt.Fprintf(&b, "Provider faults: %s. Errors: %s.\n", classes(f.ProviderFaults), classes(f.Errors))
	return b.String() + okOrBroken(r, "no token lost, nothing presented twice without a reason, every caller answered in time.")
}
