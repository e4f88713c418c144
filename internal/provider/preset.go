package provider

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh/providers"
)

// As returns Options for an endpoint that behaves as the preset's pages say, with access tokens
// that live for so long; zero: as the preset says, or for DefaultLifetime. Where no page says
// anything, the endpoint is a strict one. As panics on a preset whose Success is no JSON.
func As(preset providers.Provider, lifetime time.Duration) Options {
	usual := cmp.Or(preset.Lifetime.Value, DefaultLifetime)
	lifetime = cmp.Or(lifetime, usual)
	options := Options{
		Lifetime:          lifetime,
		Grace:             preset.Grace.Value,
		KeepRefreshToken:  preset.Rotation.Value == providers.NeverRotates,
		EndOldAccessToken: preset.EndsOldToken.Value,
		Early:             min(preset.Early.Value, lifetime/2),
		Dead:              words(preset, credentials.ClassDead),
		Extra:             extra(preset, float64(lifetime)/float64(usual)),
	}
	if preset.Reuse.Value == providers.ReuseEndsNothing {
		options.Grace = math.MaxInt64
	}
	if options.Early > 0 {
		options.TooEarly = words(preset, credentials.ClassTransient)
	}
	return options
}

// words returns the preset's first refusal of a class.
func words(preset providers.Provider, class credentials.Class) Answer {
	for _, refusal := range preset.Refusals {
		if refusal.Value.Class == class {
			return Answer{refusal.Value.Status, refusal.Value.Body}
		}
	}
	return Answer{}
}

// extra returns the members that are peculiar to the preset's successes. The lifetimes of access
// tokens among them, in whatever unit, are multiplied by stretch.
func extra(preset providers.Provider, stretch float64) map[string]any {
	if !preset.Success.Stated() {
		return nil
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(preset.Success.Value), &members); err != nil {
		panic(fmt.Sprintf("provider: Success of the preset %s: %v", preset.Name, err))
	}
	for name, value := range members {
		if !strings.HasPrefix(name, "expires_in") {
			continue
		}
		switch value := value.(type) {
		case float64:
			members[name] = int64(math.Round(value * stretch))
		case string:
			if seconds, err := strconv.ParseFloat(value, 64); err == nil {
				members[name] = strconv.FormatInt(int64(math.Round(seconds*stretch)), 10)
			}
		}
	}
	return members
}
