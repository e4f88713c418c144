package credentials

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted stands for a secret wherever one is printed.
const redacted = "[redacted]"

// Secret is a text that cannot be printed by accident: fmt (every verb), encoding/json, encoding/xml and log/slog show
// "[redacted]", also where the Secret is a field of another struct, exported or not. [Secret.Reveal] gives the text.
//
// The zero Secret is the empty text. Secrets are compared with [Secret.Equal]; == does not compile.
type Secret struct {
	_ [0]func() // not comparable: == would compare pointers

	// A pointer, because fmt prints unexported fields without asking them for their String method, and prints of a
	// pointer inside a struct the address alone.
	text *string
}

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text itself, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether s is the empty text.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal reports whether s and other hold the same text, in a time that does not depend on where they differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns "[redacted]", or "" for the zero Secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter], so that no verb and no flag shows the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler] for encoding/json and encoding/xml. It shows what String shows.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
