package credentials

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a [Key], in bytes for the service (it is ASCII) and in characters for the account.
const (
	MaxServiceLength = 100
	MaxAccountLength = 190
)

// ErrInvalidKey is wrapped by every error about a [Key] that cannot name a credential. Nothing was read or written.
var ErrInvalidKey = errors.New("invalid credential key")

// Key names one credential: a service and, where there are several accounts of it, an account.
type Key struct {
	// Service is the external API's name: 1 to 100 of the characters a-z, 0-9 and "._:/-", the first and the last of
	// them a letter or a digit. White space around it and capitals are normalized away: " GitHub " is "github".
	Service string

	// Account tells several accounts of one service apart; "" where there is one. Up to 190 characters of valid UTF-8
	// without control characters. White space around it is normalized away; capitals are kept.
	Account string
}

// String returns "service/account", or "service" for a key without account.
func (k Key) String() string {
	if k.Account == "" {
		return k.Service
	}
	return k.Service + "/" + k.Account
}

// Normalize returns the one form under which a credential is stored and compared, or an error that wraps
// [ErrInvalidKey] and says what is wrong with which part.
func (k Key) Normalize() (Key, error) {
	service, err := NormalizeService(k.Service)
	if err != nil {
		return Key{}, err
	}
	account := strings.TrimSpace(k.Account)
	switch {
	case !utf8.ValidString(account):
		return Key{}, fmt.Errorf("%w: account %q of service %q is not valid UTF-8", ErrInvalidKey, clip(k.Account), service)
	case utf8.RuneCountInString(account) > MaxAccountLength:
		return Key{}, fmt.Errorf("%w: account %q of service %q has %d characters, at most %d are allowed",
			ErrInvalidKey, clip(account), service, utf8.RuneCountInString(account), MaxAccountLength)
	}
	if i := strings.IndexFunc(account, unicode.IsControl); i >= 0 {
		return Key{}, fmt.Errorf("%w: account %q of service %q has a control character at byte %d",
			ErrInvalidKey, clip(account), service, i)
	}
	return Key{Service: service, Account: account}, nil
}

// NormalizeService returns the one form of a service's name; see [Key]. Errors wrap [ErrInvalidKey].
func NormalizeService(name string) (string, error) {
	service := strings.ToLower(strings.TrimSpace(name))
	switch {
	case service == "":
		return "", fmt.Errorf("%w: the service name %q is empty; give one such as \"github\"", ErrInvalidKey, clip(name))
	case len(service) > MaxServiceLength:
		return "", fmt.Errorf("%w: the service name %q has %d bytes, at most %d are allowed",
			ErrInvalidKey, clip(name), len(service), MaxServiceLength)
	}
	for i, r := range service {
		inner := i > 0 && i < len(service)-1
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || inner && strings.ContainsRune("._:/-", r)) {
			return "", fmt.Errorf("%w: the service name %q has %q at byte %d; allowed are a-z, 0-9 and, inside, \"._:/-\"",
				ErrInvalidKey, clip(name), r, i)
		}
	}
	return service, nil
}

// clip shortens what stands in a message: an overlong name must not make an overlong log line.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
