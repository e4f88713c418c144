package oauth2refresh

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// parameter is a string, or the JSON text of another value.
type parameter struct {
	text string
	kind kind
}

// kind says what a parameter is.
type kind int

const (
	plain  kind = iota // a number or a boolean
	quoted             // a string, or an array of strings, which stand joined by spaces
	nested             // an object, or an array of other values
)

// parameters are those of an answer (RFC 6749 sections 5.1 and 5.2), or of an object in it. Nulls
// are left out.
type parameters map[string]parameter

var errNotParameters = errors.New("the answer cannot be read")

// parameters reads the body: JSON, or a form from providers that still send one. The error never
// quotes the body.
func (a *answer) parameters() (parameters, error) {
	body := bytes.TrimPrefix(a.body, []byte("\xef\xbb\xbf")) // .NET's byte order mark
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	mayBeForm := kind == "application/x-www-form-urlencoded" || kind == "text/plain"
	if mayBeForm && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		if a.broken != nil { // nobody can see where a form was cut off
			return nil, errNotParameters
		}
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, errNotParameters
		}
		p := make(parameters, len(values))
		for name := range values {
			p[name] = parameter{values.Get(name), quoted}
		}
		return p, nil
	}
	// The body may be whole although the connection broke behind it: JSON shows where it ends.
	return object(body)
}

// object reads a JSON object.
func object(text []byte) (parameters, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil || raw == nil {
		return nil, errNotParameters
	}
	p := make(parameters, len(raw))
	for name, value := range raw {
		if value[0] == 'n' {
			continue
		}
		read, err := parameterOf(value)
		if err != nil {
			return nil, errNotParameters
		}
		p[name] = read
	}
	return p, nil
}

// parameterOf reads a JSON value that is not null.
func parameterOf(value json.RawMessage) (parameter, error) {
	switch value[0] {
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return parameter{text, quoted}, err
	case '[': // Twitch's scope is an array
		var words []string
		if err := json.Unmarshal(value, &words); err == nil && len(words) > 0 {
			return parameter{strings.Join(words, " "), quoted}, nil
		}
		return parameter{string(value), nested}, nil
	case '{':
		return parameter{string(value), nested}, nil
	}
	return parameter{string(value), plain}, nil
}

// object returns the object of that name, nil if there is none.
func (p parameters) object(name string) parameters {
	if p[name].kind != nested {
		return nil
	}
	o, err := object([]byte(p[name].text))
	if err != nil {
		return nil
	}
	return o
}

// list returns the objects of the array of that name.
func (p parameters) list(name string) (list []parameters) {
	var raw []json.RawMessage
	if p[name].kind != nested || json.Unmarshal([]byte(p[name].text), &raw) != nil {
		return nil
	}
	for _, value := range raw {
		if o, err := object(value); err == nil {
			list = append(list, o)
		}
	}
	return list
}

// str returns the parameter if it is a string, else "".
func (p parameters) str(name string) string {
	if v := p[name]; v.kind == quoted {
		return v.text
	}
	return ""
}

// extra returns the parameters beside the tokens, as valid UTF-8, which JSON needs.
func (p parameters) extra() map[string]credentials.Secret {
	extra := make(map[string]credentials.Secret)
	for name, value := range p {
		switch name {
		case "access_token", "refresh_token", "error", "error_description", "error_uri":
			continue
		}
		if value.kind != nested && !slices.Contains(refreshLifetimes, name) && !slices.Contains(lifetimes, name) {
			text := strings.ToValidUTF8(value.text, "\ufffd")
			extra[strings.ToValidUTF8(name, "\ufffd")] = credentials.NewSecret(text)
		}
	}
	return extra
}

// grant returns the grant of a successful answer of that date.
func (p parameters) grant(date time.Time) credentials.Grant {
	return credentials.Grant{
		AccessToken:     credentials.NewSecret(p.str("access_token")),
		RefreshToken:    credentials.NewSecret(p.str("refresh_token")),
		Lifetime:        p.lifetime(date),
		RefreshLifetime: p.refreshLifetime(),
		Extra:           p.extra(),
	}
}
