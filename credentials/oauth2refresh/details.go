package oauth2refresh

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Bounds of the provider's own words in a reason, in bytes and in numbers.
const (
	maxDescription = 80
	maxReason      = 255 // that of a row
	maxCodes       = 4
)

// leftOut stands for words that are left out.
const leftOut = "[...]"

// descriptionWord matches a word that can be shown: one as of an error code, a short number, or a
// provider's number of an error such as AADSTS700082.
var descriptionWord = regexp.MustCompile(
	`^(?:(?:[A-Z]?[a-z]+|[A-Z]+)(?:['_./-](?:[A-Z]?[a-z]+|[A-Z]+))*|[0-9]{1,6}|[A-Z]{2,8}[0-9]{1,7})$`)

// maxWord is the longest word of a description that is shown, in bytes.
const maxWord = 24

// details returns what the answer says beside its code, for the reason in the row: the description,
// a second code (Google's error_subtype, Microsoft's suberror) and Microsoft's numbers. The details
// tell an organization that is inactive, or a person who has to sign in again, from a grant that
// was revoked. "" if the answer says nothing that can be shown.
func (p parameters) details(secrets ...string) string {
	var b strings.Builder
	if words := description(p.described(), secrets); words != "" {
		b.WriteString(` and says "` + words + `"`)
	}
	var more []string
	for _, name := range []string{"error_subtype", "suberror"} {
		if code := errorCode(p.str(name), secrets...); code != "" {
			more = append(more, code)
		}
	}
	var numbers []json.Number
	if p["error_codes"].kind == nested && json.Unmarshal([]byte(p["error_codes"].text), &numbers) == nil {
		numbers = slices.DeleteFunc(numbers, func(n json.Number) bool {
			return len(n) > 7 || strings.Trim(n.String(), "0123456789") != ""
		})
		for _, n := range numbers[:min(len(numbers), maxCodes)] {
			more = append(more, n.String())
		}
	}
	if len(more) > 0 {
		b.WriteString(" (" + strings.Join(more, ", ") + ")")
	}
	return b.String()
}

// description returns the words of a text that can be shown, at most maxDescription bytes of them:
// none that looks like a token, has a secret in it or is a part of one.
func description(text string, secrets []string) string {
	var words []string
	size := 0
	for word := range strings.FieldsSeq(text) {
		bare := strings.Trim(word, `.,;:!?()"'`)
		if bare == "" {
			continue
		}
		if len(bare) > maxWord || !descriptionWord.MatchString(bare) || quotes(bare, secrets) {
			word = leftOut
		} else {
			word = strings.Trim(word, `"'`)
		}
		if word == leftOut && len(words) > 0 && words[len(words)-1] == leftOut {
			continue
		}
		if size += len(word) + 1; size > maxDescription {
			break
		}
		words = append(words, word)
	}
	shown := strings.Join(words, " ")
	if !slices.ContainsFunc(words, func(word string) bool { return word != leftOut }) || repeats(shown, secrets) {
		return ""
	}
	return shown
}

// repeats reports whether a text has one of the secrets in it, in whatever case.
func repeats(text string, secrets []string) bool {
	return slices.ContainsFunc(secrets, func(secret string) bool {
		return secret != "" && strings.Contains(strings.ToLower(text), strings.ToLower(secret))
	})
}
