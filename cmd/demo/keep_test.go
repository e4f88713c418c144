package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// providerArgs are the flags that every exchange at p needs.
func providerArgs(p *provider.Server, service string) []string {
	return []string{"--service", service, "--token-url", p.TokenURL(), "--client-id", "any"}
}

// putDue stores a grant with nothing but a refresh token, which is due at once.
func putDue(t *testing.T, p *provider.Server, service string, accounts ...string) {
	t.Helper()
	for _, account := range accounts {
		ok(t, `{"refresh_token": "`+p.Provider.Register(account)+`"}`, "put", service, account)
	}
}

func startProvider(t *testing.T, options provider.Options) *provider.Server {
	t.Helper()
	p, err := provider.Start("", provider.New(options))
	must(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// perService are the "services" of an object by name.
func perService(object map[string]any) map[string]map[string]any {
	services := make(map[string]map[string]any)
	for _, s := range object["services"].([]any) {
		s := s.(map[string]any)
		services[s["service"].(string)] = s
	}
	return services
}

func TestRefreshDue(t *testing.T) {
	useServer(t, "refresh_due")
	ok(t, "", "migrate", "up")
	p := startProvider(t, provider.Options{})
	args := append([]string{"refresh", "--due"}, providerArgs(p, " Xero ")...)
	if r := demo("", args...); r.status != 0 || r.stdout != "nothing was due\n" {
		t.Errorf("an empty table: status %d: %s%s, want that nothing was due", r.status, r.stdout, r.stderr)
	}

	putDue(t, p, "xero", "alice", "bob", "carol")
	putDue(t, p, "other", "dave")
	p.Provider.Revoke("carol")
	got := ok(t, "", args...)
	services := perService(got)
	if x := services["xero"]; got["ok"] != true || x["renewed"] != 2.0 || x["rejected"] != 1.0 || x["failed"] != 0.0 || x["left"] != false {
		t.Errorf("refresh --due: %v, want 2 renewed and 1 rejected of xero", got)
	}
	if o := services["other"]; o["left"] != true || o["renewed"] != 0.0 || len(services) != 2 {
		t.Errorf("refresh --due: %v, want the other service left", got)
	}
	for account, want := range map[string]string{"alice": "fresh", "bob": "fresh", "carol": "dead"} {
		if c := ok(t, "", "get", "xero", account); c["state"] != want {
			t.Errorf("xero/%s is %v, want %s", account, c["state"], want)
		}
	}
	if c := ok(t, "", "get", "other", "dave"); c["state"] != "no token yet" {
		t.Errorf("other/dave is %v, want it left as it was", c["state"])
	}

	r := demo("", args...)
	if want := "other  due, but left: no --service names it\nxero   nothing was due\n"; r.status != 0 || r.stdout != want {
		t.Errorf("second pass: status %d: %s%s, want %s", r.status, r.stdout, r.stderr, want)
	}
	if calls := p.Provider.Stats().Calls; calls != 3 {
		t.Errorf("the endpoint got %d calls, want one for each credential of xero", calls)
	}
}

// TestRefreshDueByPolicy has tokens of an hour renewed, which are due 5 minutes before they end unless a flag says other.
func TestRefreshDueByPolicy(t *testing.T) {
	useServer(t, "refresh_policy")
	ok(t, "", "migrate", "up")
	p := startProvider(t, provider.Options{Lifetime: time.Hour})
	for service, flags := range map[string][]string{
		"ahead": {"--ahead", "25m"},
		"idle":  {"--keep-alive", "35m"},
	} {
		putDue(t, p, service, "alice")
		ok(t, "", slices.Concat([]string{"refresh", "--due"}, providerArgs(p, service), flags)...)
		due := ok(t, "", "get", service, "alice")["due_in"].(float64)
		if dueIn := time.Duration(due * float64(time.Second)); dueIn > 35*time.Minute || dueIn < 30*time.Minute {
			t.Errorf("%s: due in %v, want 35 minutes, or little less", flags, dueIn)
		}
	}
}

func TestRefreshDueWithTheProviderDown(t *testing.T) {
	useServer(t, "refresh_down")
	ok(t, "", "migrate", "up")
	p := startProvider(t, provider.Options{})
	putDue(t, p, "xero", "a", "b", "c", "d", "e", "f")
	must(t, p.Close())
	args := append([]string{"refresh", "--due"}, providerArgs(p, "xero")...)
	r := demo("", args...)
	if r.status != exitFailed || !strings.Contains(r.stdout, "0 renewed, 0 rejected, 6 failed; the provider is down") {
		t.Errorf("status %d, want %d and 6 failures: %s", r.status, exitFailed, r.stdout)
	}
	if !strings.Contains(r.stderr, "refused the connection") || !strings.Contains(r.stderr, "xero/") || strings.Contains(r.stderr, "\ndemo: ") {
		t.Errorf("stderr does not say what went wrong with what:\n%s", r.stderr)
	}
	if strings.Contains(r.stderr+r.stdout, "refresh-") {
		t.Errorf("a refresh token is shown:\n%s%s", r.stdout, r.stderr)
	}

	// One failure is no reason to take it for down, but one to fail.
	ok(t, `{"refresh_token": "refresh-x"}`, "put", "github", "g")
	args = append([]string{"refresh", "--due", "--json"}, providerArgs(p, "github")...)
	r = demo("", args...)
	var got map[string]any
	must(t, json.Unmarshal([]byte(r.stdout), &got))
	if x := perService(got)["github"]; r.status != exitFailed || got["ok"] != false || x["failed"] != 1.0 || x["provider_down"] != false {
		t.Errorf("status %d, want %d and 1 failure: %s", r.status, exitFailed, r.stdout)
	}
}

func TestKeepAndRefreshDueCommandLines(t *testing.T) {
	useNoServer(t, "1")
	to := []string{"--token-url", "http://127.0.0.1:1", "--client-id", "a"}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a key and due":          {[]string{"refresh", "--due", "--service", "xero", "xero"}, "takes no arguments"},
		"due without service":    {[]string{"refresh", "--due"}, "--service is missing"},
		"neither key nor due":    {[]string{"refresh"}, "SERVICE [ACCOUNT]"},
		"service without due":    {[]string{"refresh", "--service", "xero", "xero"}, "--service is for --due"},
		"rate without due":       {[]string{"refresh", "--rate", "5", "xero"}, "--rate is for --due"},
		"negative rate with due": {[]string{"refresh", "--due", "--service", "xero", "--rate", "-1"}, "demo: --rate is -1;"},
		"reveal with due":        {[]string{"refresh", "--due", "--service", "xero", "--reveal"}, "--reveal is not for --due"},
		"odd service of refresh": {[]string{"refresh", "--due", "--service", "git hub"}, "service name"},
		"odd timeout of refresh": {[]string{"refresh", "--due", "--service", "xero", "--timeout", "0s"}, "--timeout is 0s"},
		"long timeout":           {[]string{"refresh", "--timeout", "48h", "xero"}, "--timeout is 48h0m0s; at most 23h59m45s"},
		"long timeout of keep":   {[]string{"keep", "--service", "xero", "--timeout", "24h"}, "--timeout is 24h0m0s; at most"},
		"odd grant of keep":      {[]string{"keep", "--service", "xero", "--grant", "x"}, "--grant is"},
		"keep of nothing":        {[]string{"keep"}, "--service is missing"},
		"keep of a key":          {[]string{"keep", "--service", "xero", "xero"}, "takes no arguments"},
		"odd service of keep":    {[]string{"keep", "--service", "git hub"}, "service name"},
		"odd timeout of keep":    {[]string{"keep", "--service", "xero", "--timeout", "-1s"}, "--timeout is -1s"},
		"negative rate":          {[]string{"keep", "--service", "xero", "--rate", "-1"}, "demo: --rate is -1;"},
		"no rate":                {[]string{"keep", "--service", "xero", "--rate", "NaN"}, "--rate is NaN"},
		"endless rate":           {[]string{"keep", "--service", "xero", "--rate", "Inf"}, "--rate is +Inf"},
		"no parallel":            {[]string{"keep", "--service", "xero", "--parallel", "0"}, "--parallel is 0"},
		"negative parallel":      {[]string{"keep", "--service", "xero", "--parallel", "-2"}, "--parallel is -2"},
		"short keep-alive":       {[]string{"keep", "--service", "xero", "--keep-alive", "59s"}, "--keep-alive is 59s; at least 1m0s"},
		"negative ahead":         {[]string{"keep", "--service", "xero", "--ahead", "-1s"}, "--ahead is -1s"},
	} {
		t.Run(name, func(t *testing.T) {
			args := slices.Concat(test.args[:1], to, test.args[1:])
			r := demo("", args...)
			if r.status != exitUsage || !strings.Contains(r.stderr, test.want) || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
				t.Errorf("demo %q: status %d: %s%s, want %d and %q in one line", args, r.status, r.stdout, r.stderr, exitUsage, test.want)
			}
		})
	}
	if r := demo("", "keep", "--help"); r.status != 0 || !strings.Contains(r.stdout, "Example:") {
		t.Errorf("keep --help: status %d, without an example:\n%s", r.status, r.stdout)
	}
	args := slices.Concat([]string{"keep", "--service", "xero", "--keep-alive", leastKeepAlive.String()}, to)
	if r := demo("", args...); r.status != exitFailed || !strings.Contains(r.stderr, "docker-compose up -d") {
		t.Errorf("keep without a server: status %d: %s, want it to start none", r.status, r.stderr)
	}
}

// It renews what is due, and being interrupted amid an exchange loses nothing.
func TestKeepUntilInterrupted(t *testing.T) {
	useServer(t, "keep")
	ok(t, "", "migrate", "up")
	arrived, release := make(chan string, 10), make(chan struct{})
	p := startProvider(t, provider.Options{OnPresentation: func(presented provider.Presentation) {
		arrived <- presented.Account
		if presented.Account == "slow" {
			<-release
		}
	}})
	releaseOnce := sync.OnceFunc(func() { close(release) })
	t.Cleanup(releaseOnce)
	putDue(t, p, "xero", "alice", "bob", "slow")
	putDue(t, p, "other", "dave")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append([]string{"keep", "--json", "--rate", "100", "--parallel", "3"}, providerArgs(p, "xero")...)
	keep := exec.CommandContext(ctx, os.Args[0], args...)
	keep.Env = append(os.Environ(), asCommand+"=1")
	var stdout bytes.Buffer
	keep.Stdout = &stdout
	stderr, err := keep.StderrPipe()
	must(t, err)
	must(t, keep.Start())
	said := bufio.NewScanner(stderr)
	var log strings.Builder
	waitFor := func(texts ...string) {
		t.Helper()
		for said.Scan() {
			log.WriteString(said.Text() + "\n")
			texts = slices.DeleteFunc(texts, func(text string) bool { return strings.Contains(said.Text(), text) })
			if len(texts) == 0 {
				return
			}
		}
		t.Fatalf("keep did not say %q:\n%s", texts, log.String())
	}

	presented := make(map[string]bool)
	for len(presented) < 3 {
		select {
		case account := <-arrived:
			presented[account] = true
		case <-ctx.Done():
			t.Fatalf("only %v were presented", presented)
		}
	}
	waitFor("service=xero renewed=", "service=other", "not known here")
	must(t, keep.Process.Signal(syscall.SIGINT))
	waitFor("interrupted: ")
	releaseOnce()
	for said.Scan() {
		log.WriteString(said.Text() + "\n")
	}
	if err := keep.Wait(); err != nil {
		t.Errorf("keep ended with %v, want status 0 on SIGINT:\n%s", err, log.String())
	}
	var got map[string]any
	must(t, json.Unmarshal(stdout.Bytes(), &got))
	services := perService(got)
	if x := services["xero"]; x["renewed"] != 3.0 || x["failed"] != 0.0 || services["other"]["left"] != true {
		t.Errorf("keep --json: %v, want 3 renewed of xero", got)
	}
	for _, account := range []string{"alice", "bob", "slow"} {
		c := ok(t, "", "get", "xero", account, "--reveal")
		if owner, valid := p.Provider.Validate(c["token"].(string)); owner != account || !valid {
			t.Errorf("xero/%s has no valid token but is %v", account, c["state"])
		}
		if token := c["refresh_token"].(string); strings.Contains(log.String()+stdout.String(), token) {
			t.Errorf("a refresh token is shown:\n%s", log.String())
		}
	}
}

// fakeKeepView is one of a keeper and a store that are what the test says.
func fakeKeepView(terminal bool, w *bytes.Buffer, kept map[string]credentials.Kept, due map[string]time.Duration) *keepView {
	v := newKeepView(w, credentials.Services{"xero": {}})
	v.terminal = terminal
	v.kept = func() map[string]credentials.Kept { return maps.Clone(kept) }
	v.due = func(context.Context) (map[string]time.Duration, error) {
		if due == nil {
			return nil, errors.New("the database is away")
		}
		return due, nil
	}
	v.log = slog.New(slog.NewTextHandler(v, nil))
	return v
}

func TestKeepViewStaysInPlace(t *testing.T) {
	var w bytes.Buffer
	kept := map[string]credentials.Kept{"xero": {Renewed: 5, Exchanging: 2}}
	v := fakeKeepView(true, &w, kept, map[string]time.Duration{"xero": -12 * time.Second, "other": -time.Hour})
	begin := time.Now()
	v.look(t.Context(), begin)
	if got := w.String(); !strings.Contains(got, "due for 12s") || strings.Contains(got, "A\r") || strings.Contains(got, "other") {
		t.Errorf("first look: %q", got)
	}
	kept["xero"] = credentials.Kept{Renewed: 25, Failed: 6, Down: true}
	kept["other"] = credentials.Kept{Unknown: true}
	w.Reset()
	v.look(t.Context(), begin.Add(2*time.Second))
	for _, want := range []string{"\x1b[2A\r", "10.0", "provider down, due for 12s", "not known here, due for 1h0m0s"} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("second look: %q, want %q", w.String(), want)
		}
	}
	w.Reset()
	_, _ = v.Write([]byte("something went wrong\n"))
	if got := w.String(); !strings.HasPrefix(got, "\x1b[3A\r"+clearBelow+"something went wrong\n") || !strings.Contains(got, "provider down") {
		t.Errorf("a line of the log: %q, want it above the table", got)
	}
	w.Reset()
	v.clear()
	if got := w.String(); !strings.HasPrefix(got, "\x1b[3A\r") || strings.Contains(got, "xero") {
		t.Errorf("clear: %q", got)
	}
}

func TestKeepLogsWhatChangedAndNotTooOften(t *testing.T) {
	var w bytes.Buffer
	kept := map[string]credentials.Kept{}
	v := fakeKeepView(false, &w, kept, nil)
	begin := time.Now()
	for _, step := range []struct {
		after time.Duration
		kept  credentials.Kept
		want  string
	}{
		{0, credentials.Kept{}, ""},
		{time.Second, credentials.Kept{Renewed: 3}, "renewed=3"}, // the first change is said at once
		{2 * time.Second, credentials.Kept{Renewed: 4}, ""},
		{10 * time.Second, credentials.Kept{Renewed: 13}, ""},
		{11 * time.Second, credentials.Kept{Renewed: 13, Exchanging: 1}, "renewed=13 per_second=1.0"},
		{30 * time.Second, credentials.Kept{Renewed: 13, Exchanging: 2}, ""},
		{31 * time.Second, credentials.Kept{Renewed: 13, Down: true}, "provider down, what is due is not known"},
	} {
		w.Reset()
		kept["xero"] = step.kept
		v.look(t.Context(), begin.Add(step.after))
		got := w.String()
		if step.want == "" && got != "" || !strings.Contains(got, step.want) || strings.Count(got, "\n") > 1 || strings.Contains(got, "\x1b") {
			t.Errorf("after %v: %q, want %q", step.after, got, step.want)
		}
	}
}

func TestKeepLeavesLinesOutAndSaysSo(t *testing.T) {
	seen := &seenLines{of: make(map[string]*window)}
	at := time.Now()
	for i := range mostLines + 7 {
		if _, ok := seen.admit("failed", at); ok != (i < mostLines) {
			t.Errorf("line %d is written: %v", i, ok)
		}
	}
	if _, ok := seen.admit("is back", at); !ok {
		t.Error("another message is left out")
	}
	if left, ok := seen.admit("failed", at.Add(linesEvery)); !ok || left != 7 {
		t.Errorf("later: written %v, %d left out; want true and 7", ok, left)
	}

	var w bytes.Buffer
	log := fewLines(&w).With("a", 1)
	for i := range 2 * mostLines {
		log.Warn("failed", "error", fmt.Errorf("number %d", i))
	}
	if got := strings.Count(w.String(), "\n"); got != mostLines {
		t.Errorf("%d lines were written, want %d", got, mostLines)
	}
}
