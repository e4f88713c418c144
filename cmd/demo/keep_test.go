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
func perService(object map[string]any) map[string]any {
	services := make(map[string]any)
	for _, s := range object["services"].([]any) {
		services[s.(map[string]any)["service"].(string)] = s
	}
	return services
}

func TestRefreshDue(t *testing.T) {
	useServer(t, "refresh_due")
	ok(t, "", "migrate", "up")
	p := startProvider(t, provider.Options{})
	args := append([]string{"refresh", "--due"}, providerArgs(p, " Xero ")...)
	if r := demo(t, "", args...).ends(0); r.stdout != "nothing was due\n" {
		t.Errorf("an empty table: %s, want that nothing was due", r.stdout)
	}

	putDue(t, p, "xero", "alice", "bob", "carol")
	putDue(t, p, "other", "dave")
	p.Provider.Revoke("carol")
	got := ok(t, "", args...)
	services := perService(got)
	fields{"ok": true}.in(t, got)
	fields{"renewed": 2.0, "dead": 1.0, "failed": 0.0, "left": false}.in(t, services["xero"])
	fields{"renewed": 0.0, "left": true}.in(t, services["other"])
	if len(services) != 2 {
		t.Errorf("refresh --due: %v, want two services", got)
	}
	for account, want := range map[string]string{"alice": "fresh", "bob": "fresh", "carol": "dead"} {
		fields{"state": want}.in(t, ok(t, "", "get", "xero", account))
	}
	fields{"state": "no token yet"}.in(t, ok(t, "", "get", "other", "dave"))

	const want = "other  due, but left: no --service names it\nxero   nothing was due\n"
	if r := demo(t, "", args...).ends(0); r.stdout != want {
		t.Errorf("second pass: %s, want %s", r.stdout, want)
	}
	if calls := p.Provider.Stats().Calls; calls != 3 {
		t.Errorf("the endpoint got %d calls, want one for each credential of xero", calls)
	}
}

// TestRefreshDueByPolicy has tokens of an hour renewed. They are due 5 minutes before they end
// unless a flag says other.
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
		const most, least = 35 * 60, 30 * 60
		dueIn := ok(t, "", "get", service, "alice")["due_in"].(float64)
		if dueIn > most || dueIn < least {
			t.Errorf("%s: due in %v s, want %v, or little less", flags, dueIn, most)
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
	demo(t, "", args...).ends(exitFailed).
		shows("0 renewed, 0 dead, 6 failed; the provider is down").
		says("refused the connection", "xero/").hides("\ndemo: ", "refresh-")

	// A provider that failed once is not down, but the command has failed.
	ok(t, `{"refresh_token": "refresh-x"}`, "put", "github", "g")
	args = append([]string{"refresh", "--due", "--json"}, providerArgs(p, "github")...)
	r := demo(t, "", args...).ends(exitFailed)
	var got map[string]any
	must(t, json.Unmarshal([]byte(r.stdout), &got))
	fields{"ok": false}.in(t, got)
	fields{"failed": 1.0, "provider_down": false}.in(t, perService(got)["github"])
}

func TestKeepAndRefreshDueCommandLines(t *testing.T) {
	useNoServer(t, "1")
	const (
		keep    = "keep|--token-url|http://127.0.0.1:1|--client-id|a|"
		refresh = "refresh|--token-url|http://127.0.0.1:1|--client-id|a|"
		xero    = "--service|xero|"
	)
	fail(t, exitUsage, "", map[string]line{
		"a key and due":          {refresh + "--due|" + xero + "xero", "takes no arguments"},
		"due without service":    {refresh + "--due", "--service is missing"},
		"service without due":    {refresh + xero + "xero", "--service is for --due"},
		"rate without due":       {refresh + "--rate|5|xero", "--rate is for --due"},
		"negative rate with due": {refresh + "--due|" + xero + "--rate|-1", "demo: --rate is -1;"},
		"reveal with due":        {refresh + "--due|" + xero + "--reveal", "--reveal is not for --due"},
		"odd service of refresh": {refresh + "--due|--service|git hub", "service name"},
		"odd timeout of refresh": {refresh + "--due|" + xero + "--timeout|0s", "--timeout is 0s"},
		"long timeout":           {refresh + "--timeout|48h|xero", "--timeout is 48h0m0s; at most 23h59m45s"},
		"long timeout of keep":   {keep + xero + "--timeout|24h", "--timeout is 24h0m0s; at most"},
		"odd grant of keep":      {keep + xero + "--grant|x", "--grant is"},
		"keep of nothing":        {strings.TrimSuffix(keep, "|"), "--service is missing"},
		"neither key nor due":    {strings.TrimSuffix(refresh, "|"), "SERVICE [ACCOUNT]"},
		"keep of a key":          {keep + xero + "xero", "takes no arguments"},
		"odd service of keep":    {keep + "--service|git hub", "service name"},
		"odd timeout of keep":    {keep + xero + "--timeout|-1s", "--timeout is -1s"},
		"negative rate":          {keep + xero + "--rate|-1", "demo: --rate is -1;"},
		"no rate":                {keep + xero + "--rate|NaN", "--rate is NaN"},
		"endless rate":           {keep + xero + "--rate|Inf", "--rate is +Inf"},
		"no parallel":            {keep + xero + "--parallel|0", "--parallel is 0"},
		"negative parallel":      {keep + xero + "--parallel|-2", "--parallel is -2"},
		"short keep-alive":       {keep + xero + "--keep-alive|59s", "--keep-alive is 59s; at least 1m0s"},
		"negative ahead":         {keep + xero + "--ahead|-1s", "--ahead is -1s"},
	})
	fail(t, exitFailed, "", map[string]line{
		"keep starts no server": {keep + xero + "--keep-alive|1m", "docker-compose up -d"},
	})
}

// running is the command as a process of its own.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer // to be read when the process has ended
	stderr *bufio.Scanner
	said   strings.Builder // on stderr, so far
}

func begin(ctx context.Context, t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.CommandContext(ctx, os.Args[0], args...)}
	r.cmd.Env = append(os.Environ(), asCommand+"=1")
	r.cmd.Stdout = &r.stdout
	stderr, err := r.cmd.StderrPipe()
	must(t, err)
	r.stderr = bufio.NewScanner(stderr)
	must(t, r.cmd.Start())
	return r
}

// says waits until each of the texts was written to stderr.
func (r *running) says(texts ...string) {
	r.t.Helper()
	for r.stderr.Scan() {
		line := r.stderr.Text()
		r.said.WriteString(line + "\n")
		texts = slices.DeleteFunc(texts, func(text string) bool { return strings.Contains(line, text) })
		if len(texts) == 0 {
			return
		}
	}
	r.t.Fatalf("the command did not say %q:\n%s", texts, r.said.String())
}

// end waits for the end of the process, and returns all that it wrote to stderr.
func (r *running) end() (said string, err error) {
	for r.stderr.Scan() {
		r.said.WriteString(r.stderr.Text() + "\n")
	}
	return r.said.String(), r.cmd.Wait()
}

// The command renews the credentials that are due, and an interrupt amid an exchange loses nothing.
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
	args := []string{"keep", "--json", "--rate", "100", "--parallel", "3"}
	keep := begin(ctx, t, append(args, providerArgs(p, "xero")...)...)
	presented := make(map[string]bool)
	for len(presented) < 3 {
		select {
		case account := <-arrived:
			presented[account] = true
		case <-ctx.Done():
			t.Fatalf("only %v were presented", presented)
		}
	}
	keep.says("service=xero renewed=", "service=other", "not known here")
	must(t, keep.cmd.Process.Signal(syscall.SIGINT))
	keep.says("interrupted: ")
	releaseOnce()
	said, err := keep.end()
	if err != nil {
		t.Errorf("keep ended with %v, want status 0 on SIGINT:\n%s", err, said)
	}
	var got map[string]any
	must(t, json.Unmarshal(keep.stdout.Bytes(), &got))
	services := perService(got)
	fields{"renewed": 3.0, "failed": 0.0}.in(t, services["xero"])
	fields{"left": true}.in(t, services["other"])
	for _, account := range []string{"alice", "bob", "slow"} {
		c := ok(t, "", "get", "xero", account, "--reveal")
		if owner, valid := p.Provider.Validate(c["token"].(string)); owner != account || !valid {
			t.Errorf("xero/%s has no valid token but is %v", account, c["state"])
		}
		if token := c["refresh_token"].(string); strings.Contains(said+keep.stdout.String(), token) {
			t.Errorf("a refresh token is shown:\n%s", said)
		}
	}
}

// fakeKeepView shows the stats and the due times that the test gives.
func fakeKeepView(
	terminal bool, w *bytes.Buffer, stats map[string]credentials.KeeperStats, due map[string]time.Duration,
) *keepView {
	v := newKeepView(w, credentials.Services{"xero": {}})
	v.terminal = terminal
	v.stats = func() map[string]credentials.KeeperStats { return maps.Clone(stats) }
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
	stats := map[string]credentials.KeeperStats{"xero": {Renewed: 5, Exchanging: 2}}
	due := map[string]time.Duration{"xero": -12 * time.Second, "other": -time.Hour}
	v := fakeKeepView(true, &w, stats, due)
	begin := time.Now()
	v.look(t.Context(), begin)
	got := w.String()
	if !strings.Contains(got, "due for 12s") || strings.Contains(got, "A\r") || strings.Contains(got, "other") {
		t.Errorf("first look: %q", got)
	}
	stats["xero"] = credentials.KeeperStats{Renewed: 25, Failed: 6, ProviderDown: true}
	stats["other"] = credentials.KeeperStats{UnknownService: true}
	w.Reset()
	v.look(t.Context(), begin.Add(2*time.Second))
	for _, want := range []string{
		"\x1b[2A\r", "10.0", "provider down, due for 12s", "not known here, due for 1h0m0s",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("second look: %q, want %q", w.String(), want)
		}
	}
	w.Reset()
	_, _ = v.Write([]byte("something went wrong\n"))
	got = w.String()
	const above = "\x1b[3A\r" + clearBelow + "something went wrong\n"
	if !strings.HasPrefix(got, above) || !strings.Contains(got, "provider down") {
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
	stats := map[string]credentials.KeeperStats{}
	v := fakeKeepView(false, &w, stats, nil)
	begin := time.Now()
	for _, step := range []struct {
		after time.Duration
		stats credentials.KeeperStats
		want  string
	}{
		{0, credentials.KeeperStats{}, ""},
		// The first change is logged at once.
		{time.Second, credentials.KeeperStats{Renewed: 3}, "renewed=3"},
		{2 * time.Second, credentials.KeeperStats{Renewed: 4}, ""},
		{10 * time.Second, credentials.KeeperStats{Renewed: 13}, ""},
		{11 * time.Second, credentials.KeeperStats{Renewed: 13, Exchanging: 1}, "renewed=13 per_second=1.0"},
		{30 * time.Second, credentials.KeeperStats{Renewed: 13, Exchanging: 2}, ""},
		{31 * time.Second, credentials.KeeperStats{Renewed: 13, ProviderDown: true}, "provider down, what is due is not known"},
	} {
		w.Reset()
		stats["xero"] = step.stats
		v.look(t.Context(), begin.Add(step.after))
		got := w.String()
		unwanted := step.want == "" && got != "" || strings.Count(got, "\n") > 1 || strings.Contains(got, "\x1b")
		if unwanted || !strings.Contains(got, step.want) {
			t.Errorf("after %v: %q, want %q", step.after, got, step.want)
		}
	}
}

func TestKeepLeavesLinesOutAndSaysSo(t *testing.T) {
	seen := &seenLines{windows: make(map[string]*lineWindow)}
	at := time.Now()
	for i := range maxLines + 7 {
		if _, ok := seen.admit("failed", at); ok != (i < maxLines) {
			t.Errorf("line %d is written: %v", i, ok)
		}
	}
	if _, ok := seen.admit("is back", at); !ok {
		t.Error("another message is left out")
	}
	if omitted, ok := seen.admit("failed", at.Add(linesEvery)); !ok || omitted != 7 {
		t.Errorf("later: written %v, %d left out; want true and 7", ok, omitted)
	}

	var w bytes.Buffer
	log := fewLines(&w).With("a", 1)
	for i := range 2 * maxLines {
		log.Warn("failed", "error", fmt.Errorf("number %d", i))
	}
	log.Info("exchange saved")
	if got := strings.Count(w.String(), "\n"); got != maxLines {
		t.Errorf("%d lines were written, want %d", got, maxLines)
	}
}
