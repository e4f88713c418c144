package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/latchkey-go/latchkey/credentials"
)

// shownKept is what was done for a service, as it is printed.
type shownKept struct {
	Service    string `json:"service"`
	Renewed    int    `json:"renewed"`
	Rejected   int    `json:"rejected"`
	Failed     int    `json:"failed"`
	Exchanging int    `json:"exchanging,omitempty"` // whose outcome was not waited for
	Down       bool   `json:"provider_down"`
	Unknown    bool   `json:"left"` // since --service does not name it
}

// listKept has all services by name: those that --service names, and those of which something was due.
func listKept(services credentials.Services, kept map[string]credentials.Kept) []shownKept {
	all := maps.Clone(kept)
	for name := range services {
		all[name] = kept[name]
	}
	list := make([]shownKept, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		k := all[name]
		list = append(list, shownKept{name, k.Renewed, k.Rejected, k.Failed, k.Exchanging, k.Down, k.Unknown})
	}
	return list
}

// lines is a line for each service.
func lines(list []shownKept, say func(shownKept) string) string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range list {
		_, _ = fmt.Fprintf(out, "%s\t%s\n", s.Service, say(s))
	}
	_ = out.Flush() // to a strings.Builder
	return b.String()
}

func (s shownKept) String() string {
	if s.Unknown {
		return "due, but left: no --service names it"
	}
	text := fmt.Sprintf("%d renewed, %d rejected, %d failed", s.Renewed, s.Rejected, s.Failed)
	if s.Exchanging > 0 {
		text += fmt.Sprintf(", %d not waited for", s.Exchanging)
	}
	if s.Down {
		text += "; the provider is down, and what else is due was left"
	}
	return text
}
