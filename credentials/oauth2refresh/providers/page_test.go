package providers_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
)

var update = flag.Bool("update", false, "write docs/providers.md")

const providersPage = "../../../docs/providers.md"

// The page has the presets as they are.
func TestPageHasThePresets(t *testing.T) {
	want := pageOf(providers.All())
	if *update {
		if err := os.WriteFile(providersPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(providersPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	lines := strings.Split(string(got), "\n")
	const remedy = "write the page anew: go generate ./credentials/oauth2refresh/providers"
	for i, line := range strings.Split(want, "\n") {
		if i >= len(lines) || lines[i] != line {
			t.Fatalf("line %d of docs/providers.md should be\n%s\n%s", i+1, line, remedy)
		}
	}
	t.Fatalf("docs/providers.md has lines too many; %s", remedy)
}

const introduction = `# Providers

This page is written by ` + "`go generate ./credentials/oauth2refresh/providers`" + ` from the presets of
package ` + "`credentials/oauth2refresh/providers`" + `; a test holds the page against them.

` + "```go" + `
credentials.Services{
	"xero":       providers.Xero.Service(clientID, clientSecret),
	"salesforce": providers.Salesforce.At("login.salesforce.com").Service(clientID, clientSecret),
}
` + "```" + `

` + "`demo provider --as exact-online`" + ` serves an endpoint that behaves as the pages of a provider say.

A cell with a dash says that no page was found which states the fact. A month is 30 days, a year 365
days. The columns:

- **rotates**: whether an exchange replaces the refresh token. *Always*, *sometimes*, *never*.
- **grace**: for how long a refresh token that was used still works.
- **reuse ends**: the grants that end when a used refresh token comes back after the grace.
- **token**: the life of an access token.
- **idle**: for how long a refresh token may stay unused.
- **grant**: how long after its authorization a grant ends, however much it is used.
- **early**: how long before a token's end the provider begins to replace it.
- **policy**: the fields of ` + "`credentials.Service`" + ` that follow; ` + "`Provider.Service`" + ` has the rules.

| provider | rotates | grace | reuse ends | token | idle | grant | early | policy |
|---|---|---|---|---|---|---|---|---|
`

// pageOf returns docs/providers.md.
func pageOf(all []providers.Provider) string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, p := range all {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %s | %s | %s | %s |\n", p.Title, anchor(p.Title),
			cell(string(p.Rotation.Value)), cell(span(p.Grace.Value)), cell(string(p.Reuse.Value)),
			cell(span(p.Lifetime.Value)), cell(span(p.IdleLimit.Value)), cell(span(p.GrantLifetime.Value)),
			cell(span(p.Early.Value)), policy(p))
	}
	for _, p := range all {
		fmt.Fprintf(&b, "\n## %s\n\n", p.Title)
		for _, f := range facts(p) {
			if f.stated {
				fmt.Fprintf(&b, "- %s: %s ([source](%s))\n", f.name, f.value, f.source)
			}
		}
	}
	return b.String()
}

// anchor returns the fragment that GitHub gives to a heading.
func anchor(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "-") }

func cell(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// policy returns the fields of the service that follow from the facts.
func policy(p providers.Provider) string {
	service := p.Service("id", "secret")
	var fields []string
	switch service.Replay {
	case credentials.ReplayTwice:
		fields = append(fields, "ReplayTwice")
	case credentials.NeverReplay:
		fields = append(fields, "NeverReplay")
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"DefaultLifetime", service.DefaultLifetime},
		{"MaxLifetime", service.MaxLifetime},
		{"RefreshAhead", service.RefreshAhead},
		{"KeepAlive", service.KeepAlive},
	} {
		if f.value != 0 {
			fields = append(fields, f.name+" "+span(f.value))
		}
	}
	return cell(strings.Join(fields, ", "))
}

// line is a fact as the page has it.
type line struct {
	name, value, source string
	stated              bool
}

// facts returns the facts of a provider, those that no page states included.
func facts(p providers.Provider) []line {
	places := ""
	if p.Places != "" {
		places = ", such as " + p.Places
	}
	lines := []line{
		entry("token endpoint", p.TokenURL, code(p.TokenURL.Value)+places),
		entry("client id and secret", p.AuthStyle, styles[p.AuthStyle.Value]),
		entry("revocation endpoint", p.RevocationURL, code(p.RevocationURL.Value)),
		entry("rotates", p.Rotation, string(p.Rotation.Value)),
		entry("grace", p.Grace, span(p.Grace.Value)),
		entry("reuse ends", p.Reuse, string(p.Reuse.Value)),
		entry("life of an access token", p.Lifetime, span(p.Lifetime.Value)),
		entry("an exchange ends the old access token", p.EndsOldToken, yesNo(p.EndsOldToken)),
		entry("life of an unused refresh token", p.IdleLimit, span(p.IdleLimit.Value)),
		entry("life of the grant", p.GrantLifetime, span(p.GrantLifetime.Value)),
		entry("early renewal begins before the end by", p.Early, span(p.Early.Value)),
		entry("a refresh request has the redirect_uri", p.SendsRedirectURI, yesNo(p.SendsRedirectURI)),
		entry("peculiar to its success", p.Success, code(p.Success.Value)),
	}
	for _, r := range p.Refusals {
		status := ""
		if r.Value.Status != 0 {
			status = fmt.Sprintf("%d ", r.Value.Status)
		}
		lines = append(lines, entry("means "+string(r.Value.Class), r, status+code(r.Value.Body)))
	}
	for _, note := range p.Notes {
		lines = append(lines, entry("note", note, note.Value))
	}
	return lines
}

func entry[T any](name string, f providers.Fact[T], value string) line {
	return line{name: name, value: value, source: f.Source, stated: f.Stated()}
}

func yesNo(f providers.Fact[bool]) string {
	switch {
	case f.Value:
		return "yes"
	case f.Stated():
		return "no"
	}
	return ""
}

var styles = map[oauth2.AuthStyle]string{
	oauth2.AuthStyleInHeader: "in the Authorization header",
	oauth2.AuthStyleInParams: "in the body",
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// span returns a duration in words, "" for none.
func span(d time.Duration) string {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	switch {
	case d == 0:
		return ""
	case d > year && d%year == 0:
		return fmt.Sprintf("%d years", d/year)
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	default:
		return fmt.Sprintf("%d s", d/time.Second)
	}
}
