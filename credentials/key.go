package credentials

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a [Key], in bytes for the service (it is ASCII) and in characters for the account.
const (
	MaxServiceLength = 100
	MaxAccountLength = 190
)

// ErrInvalidKey is wrapped by every error about a [Key] that cannot name a credential. Nothing was
// read or written.
var ErrInvalidKey = errors.New("invalid credential key")

// Key names one credential: a service and, where there are several accounts of it, an account.
type Key struct {
	// Service is the external API's name, under which [Services] has its policy: 1 to 100 of the
	// characters a-z, 0-9 and "._:/-", the first and the last of them a letter or a digit. White
	// space around it and capitals are normalized away: " GitHub " is "github".
	Service string

	// Account tells several accounts of one service apart; "" where there is one. Up to 190
	// characters of valid UTF-8 in any language, an e-mail address, a URL. White space around it is
	// normalized away; capitals are kept.
	//
	// Characters that cannot be seen are refused, since two names that differ by them look the
	// same, and those that write from right to left make a line of a log read as another: the
	// Unicode categories Cc, Cf, Zl and Zp, the property Default_Ignorable_Code_Point, and U+2800.
	// Exceptions are the signs of Prepended_Concatenation_Mark, which can be seen, and where a
	// script or an emoji needs them, the joiners U+200C and U+200D and the variation selectors: the
	// ones between, the others after letters, marks or symbols that are not Latin, Greek or
	// Cyrillic.
	Account string
}

// String returns the key for people: "service/account", or "service" for a key without account. No
// two keys have the same text, and every character of it can be seen: a service with a slash in it,
// an account that begins with a quotation mark, and characters that cannot be printed are quoted as
// in Go.
func (k Key) String() string {
	service := quoted(k.Service, k.Service == "" || strings.Contains(k.Service, "/"))
	if k.Account == "" {
		return service
	}
	return service + "/" + quoted(k.Account, false)
}

// quoted returns the part of a key as it is, or quoted if that is needed.
func quoted(part string, needed bool) string {
	spaces := func(r rune) bool { return r != ' ' && unicode.IsSpace(r) }
	if needed || strings.HasPrefix(part, `"`) || !utf8.ValidString(part) ||
		hidden(part) >= 0 || strings.ContainsFunc(part, spaces) {
		return strconv.Quote(part)
	}
	return part
}

// Normalize returns the one form under which a credential is stored and compared, or an error that
// wraps [ErrInvalidKey] and names the part and its fault.
func (k Key) Normalize() (Key, error) {
	service, err := NormalizeService(k.Service)
	if err != nil {
		return Key{}, err
	}
	account := strings.TrimSpace(k.Account)
	switch {
	case !utf8.ValidString(account):
		return Key{}, fmt.Errorf("%w: account %q of service %q is not valid UTF-8",
			ErrInvalidKey, clip(k.Account), service)
	case utf8.RuneCountInString(account) > MaxAccountLength:
		return Key{}, fmt.Errorf("%w: account %q of service %q has %d characters, at most %d are allowed",
			ErrInvalidKey, clip(account), service, utf8.RuneCountInString(account), MaxAccountLength)
	}
	if i := hidden(account); i >= 0 {
		r, _ := utf8.DecodeRuneInString(account[i:])
		return Key{}, fmt.Errorf("%w: account %q of service %q has at byte %d the character %U, which cannot be seen; leave it out",
			ErrInvalidKey, clip(account), service, i, r)
	}
	return Key{Service: service, Account: account}, nil
}

// invisible are the characters that cannot be seen wherever they stand; of Cf, which has two kinds
// that are looked at by themselves, there is more in hidden.
var invisible = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}}, // Braille without a dot
}

// hidden returns where the first character of s is that cannot be seen and is not needed where it
// stands, -1 if there is none.
func hidden(s string) int {
	var before rune
	for i, r := range s {
		visible := true
		switch {
		case r < utf8.RuneSelf:
			visible = !unicode.IsControl(r)
		case unicode.Is(unicode.Variation_Selector, r):
			visible = shapes(before) && !unicode.Is(unicode.Variation_Selector, before)
		case unicode.Is(unicode.Join_Control, r):
			rest := s[i+utf8.RuneLen(r):]
			after, _ := utf8.DecodeRuneInString(rest)
			visible = shapes(before) && rest != "" && shapes(after)
		case unicode.In(r, invisible...):
			visible = unicode.Is(unicode.Prepended_Concatenation_Mark, r)
		}
		if !visible {
			return i
		}
		before = r
	}
	return -1
}

// shapes reports whether joiners and variation selectors beside r can change how it looks. Below
// U+0370 there are Latin letters and the marks for them.
func shapes(r rune) bool {
	return r >= 0x370 && unicode.In(r, unicode.L, unicode.M, unicode.S) &&
		!unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic)
}

// NormalizeService returns the one form of a service's name; see [Key]. Errors wrap
// [ErrInvalidKey].
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

// clip shortens a name for a message: an overlong name must not make an overlong log line.
func clip(s string) string {
	const maxBytes = 60
	if len(s) <= maxBytes {
		return s
	}
	return s[:maxBytes] + "…"
}
