package credentials

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted stands for a secret wherever one is printed.
const redacted = "[redacted]"

// Secret is a text that cannot be printed by accident: fmt (every verb), encoding/json,
// encoding/xml and log/slog show "[redacted]", also where the Secret is a field of another struct,
// exported or not, and packages that print by reflection find a function. [Secret.Reveal] gives the
// text. There is no method String, which would be taken for that; [Token.SetAuthHeader] makes the
// header of a request.
//
// The zero Secret is the empty text. Secrets are compared with [Secret.Equal]; == does not compile.
type Secret struct {
	// A function, because fmt and others print unexported fields without asking them for their
	// methods, and follow pointers, but of a function print the address alone.
	text func() string
}

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: func() string { return text }}
}

// Reveal returns the text itself, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

// IsZero reports whether s is the empty text.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal reports whether s and other hold the same text, in a time that does not depend on where
// they differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// shown returns "[redacted]", or "" for the zero Secret.
func (s Secret) shown() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter], so that no verb and no flag shows the text: they show
// "[redacted]", or nothing for the zero Secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.shown()) }

// MarshalText implements [encoding.TextMarshaler] for encoding/json and encoding/xml. It shows the
// same as Format.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.shown()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.shown()) }
