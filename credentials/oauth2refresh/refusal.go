package oauth2refresh

import "cmp"

// maxErrors is how many of an answer's list of errors are looked at.
const maxErrors = 8

// site is a place in which providers name an error code.
type site struct {
	code string

	// loose says that the place may have another meaning, as "status" has in a success. A code
	// counts there if it is known, or if the status of HTTP is an error's.
	loose bool
}

// sites returns the error codes of an answer wherever they stand, the most usual place first: the
// string "error" (RFC 6749 section 5.2); an object "error" (OpenAI, Google's APIs, Facebook); the
// list "errors" (Fitbit, Strava); and "code" or "status" beside a message (HubSpot).
func (p parameters) sites() []site {
	found := p.named(false, "error")
	found = append(found, p.object("error").named(false, "code", "type", "status", "error")...)
	found = append(found, p.named(false, "errors")...)
	for i, e := range p.list("errors") {
		if i == maxErrors {
			break
		}
		if field := e.str("field"); field == "refresh_token" { // {"field":"refresh_token","code":"invalid"}
			found = append(found, site{code: e.str("code") + "_" + field})
		}
		found = append(found, e.named(false, "errorType", "error", "type", "code")...)
	}
	return append(found, p.named(true, "error_code", "errorCode", "code", "status")...)
}

// named returns the sites of those names that have a string.
func (p parameters) named(loose bool, names ...string) (found []site) {
	for _, name := range names {
		if text := p.str(name); text != "" {
			found = append(found, site{text, loose})
		}
	}
	return found
}

// code returns the code of an answer that is no success, as the provider writes it: the first that
// is known, else the first that looks like one; "" if there is none, or if it is one of the
// secrets. failed says that the status of HTTP is an error's.
func (p parameters) code(failed bool, secrets ...string) (code string) {
	for _, s := range p.sites() {
		word := normal(s.code)
		if _, known := codes[word]; known && !quotes(word, secrets) && !quotes(s.code, secrets) {
			return s.code
		}
		if code == "" && (failed || !s.loose) {
			code = errorCode(s.code, secrets...)
		}
	}
	return code
}

// described returns the text for people that stands beside the code; "" if there is none.
func (p parameters) described() string {
	described := cmp.Or(
		p.str("error_description"), p.object("error").str("message"), p.str("message"), p.str("error_message"))
	if list := p.list("errors"); len(list) > 0 && list[0].str("message") != "" {
		return list[0].str("message") // Strava's own message is the status
	}
	return described
}
