package provider_test

import (
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/provider"
)

func TestSummarize(t *testing.T) {
	zero := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	// p is a presentation from second start to second end; end 0: it is under way.
	p := func(account string, serial, next int64, start, end int, outcome provider.Outcome) provider.Presentation {
		d := provider.Presentation{Account: account, Grant: "refresh_token", Serial: serial, Next: next, Outcome: outcome,
			Start: zero.Add(time.Duration(start) * time.Second)}
		if end != 0 {
			d.End = zero.Add(time.Duration(end) * time.Second)
		}
		return d
	}
	const (
		issued  = provider.Issued
		faulted = provider.Faulted
	)
	tests := []struct {
		name             string
		presentations    []provider.Presentation
		want             provider.Counts
		parallelAccounts int
	}{
		{"none", nil, provider.Counts{}, 0},
		{"one after the other", []provider.Presentation{
			p("a", 1, 2, 1, 2, issued), p("a", 2, 3, 2, 3, issued),
		}, provider.Counts{Calls: 2, Issued: 2, MaxParallelPerAccount: 1}, 1},
		{"accounts at once", []provider.Presentation{
			p("a", 1, 4, 1, 5, issued), p("b", 2, 5, 2, 5, issued), p("c", 3, 6, 3, 5, issued), p("d", 7, 8, 5, 6, issued),
		}, provider.Counts{Calls: 4, Issued: 4, MaxParallelPerAccount: 1}, 3},
		{"overlapping presentations of one token", []provider.Presentation{
			p("a", 1, 2, 1, 4, issued), p("a", 1, 0, 3, 5, provider.Reused),
		}, provider.Counts{Calls: 2, Issued: 1, Duplicates: 1, ReuseDetected: 1, MaxParallelPerAccount: 2}, 1},
		{"presented after it was answered", []provider.Presentation{
			p("a", 1, 2, 1, 2, issued), p("a", 1, 0, 3, 5, provider.Reused),
		}, provider.Counts{Calls: 2, Issued: 1, Duplicates: 1, ReuseDetected: 1, MaxParallelPerAccount: 1}, 1},
		{"presented after a fault", []provider.Presentation{
			p("a", 1, 0, 1, 2, faulted), p("a", 1, 2, 3, 5, issued),
		}, provider.Counts{Calls: 2, Issued: 1, Replays: 1, MaxParallelPerAccount: 1}, 1},
		{"presented during a fault", []provider.Presentation{
			p("a", 1, 0, 1, 0, provider.Pending), p("a", 1, 2, 3, 5, issued),
		}, provider.Counts{Calls: 2, Issued: 1, Duplicates: 1, MaxParallelPerAccount: 2}, 1},
		{"kept refresh token", []provider.Presentation{
			p("a", 1, 0, 1, 2, issued), p("a", 1, 0, 3, 4, issued), p("a", 1, 0, 4, 5, faulted), p("a", 1, 0, 5, 6, issued),
		}, provider.Counts{Calls: 4, Issued: 3, Replays: 1, MaxParallelPerAccount: 1}, 1},
		{"client credentials have no token to repeat", []provider.Presentation{
			p("a", 0, 0, 1, 3, issued), p("a", 0, 0, 2, 4, issued),
		}, provider.Counts{Calls: 2, Issued: 2, MaxParallelPerAccount: 2}, 1},
		{"no time at all", []provider.Presentation{
			p("a", 1, 2, 1, 1, issued), p("b", 3, 4, 1, 1, issued), p("a", 2, 5, 1, 1, issued),
		}, provider.Counts{Calls: 3, Issued: 3, MaxParallelPerAccount: 1}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := provider.Summarize(tt.presentations)
			if got.Counts != tt.want || got.MaxParallelAccounts != tt.parallelAccounts {
				t.Errorf("got %+v, %d accounts at once; want %+v, %d", got.Counts, got.MaxParallelAccounts, tt.want, tt.parallelAccounts)
			}
		})
	}
}

func TestSummarizePerAccount(t *testing.T) {
	zero := time.Now()
	got := provider.Summarize([]provider.Presentation{
		{Account: "a", Serial: 1, Next: 3, Start: zero, End: zero.Add(2), Outcome: provider.Issued},
		{Account: "b", Serial: 2, Start: zero.Add(1), End: zero.Add(3), Outcome: provider.Faulted, Fault: provider.Drop},
		{Account: "b", Serial: 2, Next: 4, Start: zero.Add(2), End: zero.Add(4), Outcome: provider.Issued},
	}).Accounts
	want := map[string]provider.Counts{
		"a": {Calls: 1, Issued: 1, MaxParallelPerAccount: 1},
		"b": {Calls: 2, Issued: 1, Duplicates: 1, MaxParallelPerAccount: 2},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

func TestIssuesAreAllAccessTokens(t *testing.T) {
	e := start(t, provider.Options{EndOldAccessToken: true})
	refresh, first := e.RegisterWithToken("alice")
	if account, ok := e.Validate(first); account != "alice" || !ok {
		t.Errorf("Validate of the first access token = %q, %v", account, ok)
	}
	answered := e.post(t.Context(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
	if _, ok := e.Validate(first); ok {
		t.Error("the first access token lives on beside the second")
	}
	issues := e.Issues()
	if len(issues) != 2 || issues[0].Token != first || issues[1].Token != answered.text("access_token") || issues[1].Account != "alice" {
		t.Fatalf("issues = %+v", issues)
	}
	if p := e.Presentations()[0]; !issues[0].Presented.IsZero() || !issues[1].Presented.Equal(p.Start) || issues[1].At.Before(p.Start) || issues[1].At.After(p.End) {
		t.Errorf("issues = %+v of the presentation %+v", issues, p)
	}
}
