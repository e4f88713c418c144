package report

import (
	"fmt"
	"strings"
	"time"
)

// verdict is the last sentence, or the list of violations.
func verdict(r Report, good string) string {
	if r.OK {
		return "OK: " + good + "\n"
	}
	return "BROKEN:\n  - " + strings.Join(r.Violations, "\n  - ") + "\n"
}

// where names the server, and says whether the tokens were sealed.
func where(r Report) string {
	if r.Sealed {
		return r.Server + ", tokens sealed"
	}
	return r.Server
}

// roundsVerdict describes the rounds in two sentences.
func roundsVerdict(r Report) string {
	return fmt.Sprintf("%s × %s × %s × %s on %s: %s, %s, up to %s at the same moment.\n",
		count(r.Processes, "process"), count(r.Threads, "thread"), count(r.Accounts, "account"),
		count(r.Rounds, "round"), where(r), count(r.Callers, "caller"),
		count(r.Refreshes.Calls, "exchange"), count(r.Refreshes.MaxParallelAccounts, "account"),
	) + fmt.Sprintf("The slowest caller waited %.1f ms, of which the endpoint took %.1f. "+
		"Connections held during an exchange: %d.\n",
		r.LatencyMS.Max, r.EndpointLatencyMS, r.HeldConnections.Max)
}

// faultVerdict describes a targeted fault and its outcome.
func faultVerdict(r Report) string {
	const good = "nothing was lost that could be kept, and every caller that lived got a committed " +
		"token or was told why not."
	var done string
	switch {
	case r.Kills > 0:
		done = fmt.Sprintf("%s killed (%s) with %s",
			count(r.Kills, "process"), r.Fault, count(r.CallersKilled, "caller"))
	case r.Pauses > 0:
		done = fmt.Sprintf("%s paused until after the lease's end", count(r.Pauses, "process"))
	case r.Restarts > 0:
		done = fmt.Sprintf("%s of the server (%s)", count(r.Restarts, "restart"), r.Fault)
	default:
		return "Nothing went wrong: no holder got as far as the fault.\n" + verdict(r, good)
	}
	return fmt.Sprintf("%s; %s of unknown outcome, %s, %s. Errors that callers were told: %s.\n",
		done, count(r.UnknownOutcomes, "exchange"), count(r.Replays, "replay"), lostGrants(r),
		classes(r.Errors)) + verdict(r, good)
}

// lostGrants says how many grants are gone. A provider that revokes on reuse has its part in them.
func lostGrants(r Report) string {
	switch {
	case r.TokensLost+r.LostWithHolder+r.LostWithAnswer == 0:
		return "no grant lost"
	case r.TokensLost > 0:
		return fmt.Sprintf("%d GRANTS LOST, %d more with their holder, %d with the answer",
			r.TokensLost, r.LostWithHolder, r.LostWithAnswer)
	}
	return fmt.Sprintf("%s lost with the holder that was killed and %d with the provider's answer, "+
		"as nobody else ever had them", count(r.LostWithHolder, "grant"), r.LostWithAnswer)
}

func chaosVerdict(r Report) string {
	history := "breaks the rules"
	if r.History.OK {
		history = "is explained"
	}
	return fmt.Sprintf("%v of chaos (seed %d) for %s × %s × %s on %s. "+
		"The history of %d operations %s.\nProvider faults: %s. Errors: %s.\n",
		span(r.DurationMS), r.Seed, count(r.Processes, "process"), count(r.Threads, "thread"),
		count(r.Accounts, "account"), where(r), r.History.Operations, history,
		classes(r.ProviderFaults), classes(r.Errors),
	) + verdict(r, "no token lost, nothing presented twice without a reason, "+
		"every caller answered in time.")
}

func lifetimesVerdict(r Report) string {
	s := r.ServedAfterReplaced
	return fmt.Sprintf("%s × %s × %s over %s of %v on %s: %s, %s by %s, %s lost to another.\n",
		count(r.Processes, "process"), count(r.Threads, "thread"), count(r.Accounts, "account"),
		count(r.Lifetimes, "lifetime"), span(r.LifetimeMS), where(r), count(r.Callers, "call"),
		count(r.Refreshes.Calls, "exchange"), count(r.Renewers, "process"),
		count(r.ClaimsLost, "claim"),
	) + fmt.Sprintf("%s waited for an exchange, which takes %.1f ms. "+
		"Connections held during one: %d.\n",
		count(r.CallersWaited, "caller"), r.EndpointLatencyMS, r.HeldConnections.Max,
	) + fmt.Sprintf("A token was served for up to %.1f ms after the provider had issued the next one "+
		"(p99 %.1f): %.1f where it was renewed, %.1f elsewhere.\n",
		s.Max, s.P99, s.MaxInRenewer, s.MaxInOthers,
	) + verdict(r, "one exchange for each expiry, and nobody waited for it.")
}

func span(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
