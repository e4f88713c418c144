package provider

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/latchkey-go/latchkey/internal/testkit"
)

// request is a token request that was read and whose client is who it says.
type request struct {
	grant, clientID, refreshToken string

	code, verifier, redirectURI string // with an authorization code
}

// oauthError is an error answer as RFC 6749 section 5.2 has it.
type oauthError struct {
	status            int
	code, description string

	ownWords Answer // in place of the others, unless it is zero
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	req, refusal := p.read(w, r)
	n, arrived, fault, latency := p.arrive(req, refusal)
	if p.options.OnPresentation != nil {
		p.options.OnPresentation(arrived)
	}
	if refusal != nil {
		p.decide(n, r, nil)
		refusal.write(w)
		return
	}
	if !p.wait(latency) {
		p.decide(n, r, func(d *Presentation) { d.Outcome = Aborted })
		drop(w)
		return
	}

	answer := map[string]any{"access_token": "access-never-issued", "token_type": "Bearer", "expires_in": 3600}
	if fault.rotates() {
		answer, refusal = p.exchange(n, req)
	}
	switch {
	case refusal != nil && fault.answers():
		p.decide(n, r, func(d *Presentation) { d.Fault = "" })
		refusal.write(w)
	case fault.answers():
		switch fault.Kind {
		case NoExpiresIn:
			delete(answer, "expires_in")
		case ZeroExpiresIn:
			answer["expires_in"] = 0
		}
		p.decide(n, r, func(d *Presentation) { d.Outcome = Issued })
		writeJSON(w, http.StatusOK, answer)
	default:
		if fault.Kind == Hang { // it is under way for as long as it hangs
			select {
			case <-r.Context().Done():
			case <-p.closed:
			}
		}
		p.decide(n, r, func(d *Presentation) {
			if refusal == nil {
				d.Outcome = Faulted
			}
		})
		fault.write(w, answer)
	}
}

// read parses the request and authenticates the client.
func (p *Provider) read(w http.ResponseWriter, r *http.Request) (request, *oauthError) {
	form, refusal := readForm(w, r)
	if refusal != nil {
		return request{}, refusal
	}
	req := request{
		grant: form.Get("grant_type"), clientID: form.Get("client_id"), refreshToken: form.Get("refresh_token"),
		code: form.Get("code"), verifier: form.Get("code_verifier"), redirectURI: form.Get("redirect_uri"),
	}
	if req.clientID, refusal = p.authenticate(r, form); refusal != nil {
		return req, refusal
	}
	switch {
	case req.grant == "":
		return req, invalidRequest("grant_type is missing")
	case req.grant == "client_credentials", req.grant == "authorization_code":
		return req, nil
	case req.grant != "refresh_token":
		return req, &oauthError{
			status: http.StatusBadRequest, code: "unsupported_grant_type",
			description: "use refresh_token, authorization_code or client_credentials",
		}
	case req.refreshToken == "":
		return req, invalidRequest("refresh_token is missing")
	}
	return req, nil
}

// readForm reads the body as a form.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *oauthError) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		return nil, invalidRequest("the body is not an application/x-www-form-urlencoded form")
	}
	for name, values := range r.PostForm {
		if len(values) > 1 {
			return nil, invalidRequest("a parameter is repeated (RFC 6749 section 3.2): " + name)
		}
	}
	return r.PostForm, nil
}

// authenticate returns the client's id, or why it is not who it says.
func (p *Provider) authenticate(r *http.Request, form url.Values) (clientID string, refusal *oauthError) {
	clientID, secret := form.Get("client_id"), form.Get("client_secret")
	if id, password, ok := r.BasicAuth(); ok {
		if secret != "" {
			return clientID, invalidRequest("the client authenticated in two ways (RFC 6749 section 2.3)")
		}
		var err1, err2 error
		clientID, err1 = url.QueryUnescape(id)
		secret, err2 = url.QueryUnescape(password)
		if err1 != nil || err2 != nil {
			return clientID, invalidRequest("the client's name or password is not form-encoded (RFC 6749 section 2.3.1)")
		}
	}
	if p.options.ClientID != "" || p.options.ClientSecret != "" {
		id := subtle.ConstantTimeCompare([]byte(clientID), []byte(p.options.ClientID))
		password := subtle.ConstantTimeCompare([]byte(secret), []byte(p.options.ClientSecret))
		if id&password != 1 {
			return clientID, &oauthError{
				status: http.StatusUnauthorized, code: "invalid_client", description: "unknown client or wrong secret",
			}
		}
	}
	return clientID, nil
}

func invalidRequest(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

// arrive records the presentation under number n and says what it will meet.
func (p *Provider) arrive(
	req request, refusal *oauthError,
) (n int, arrived Presentation, fault Fault, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := Presentation{Grant: req.grant, Start: time.Now(), Outcome: Pending}
	if t := p.families.RefreshToken(req.refreshToken); t != nil {
		d.Account, d.Family, d.Serial = t.Family.Account, t.Family.ID, t.Serial
	} else if req.grant == "client_credentials" {
		d.Account = req.clientID
	} else if c := p.codes[req.code]; c != nil {
		d.Account = c.account
	}
	if refusal != nil {
		d.Outcome = Refused
	} else {
		fault = p.nextFault(d.Account)
		d.Fault = fault.Kind
	}
	latency = p.options.Latency
	if a := p.accounts[d.Account]; a != nil && a.slow {
		latency = a.latency
	}
	p.presentations = append(p.presentations, d)
	return len(p.presentations) - 1, d, fault, latency
}

// decide records the end of presentation n, and what change says about it.
func (p *Provider) decide(n int, r *http.Request, change func(*Presentation)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &p.presentations[n]
	d.End, d.ClientGone = time.Now(), r.Context().Err() != nil
	if change != nil {
		change(d)
	}
}

// wait lets the latency pass, whether or not the client stays: providers do not notice either. It
// reports whether the provider is still open.
func (p *Provider) wait(latency time.Duration) bool {
	if latency <= 0 {
		return true
	}
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.closed:
		return false
	}
}

// outcomes are those of refresh tokens that do not work.
var outcomes = map[error]Outcome{
	testkit.ErrNeverIssued: NeverWas, testkit.ErrRevoked: Revoked, testkit.ErrReused: Reused,
}

// exchange does what was asked for: the rotation takes effect here. A refusal goes into the record
// at once.
func (p *Provider) exchange(n int, req request) (answer map[string]any, refusal *oauthError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer = map[string]any{"token_type": "Bearer", "expires_in": int64(p.options.Lifetime / time.Second)}
	if req.grant == "client_credentials" {
		answer["access_token"] = p.families.Issue(req.clientID, p.presentations[n].Start).Text
		maps.Copy(answer, p.options.Extra)
		return answer, nil
	}

	record := &p.presentations[n]
	if req.grant == "authorization_code" {
		family, err := p.exchangeCode(req)
		if err != nil {
			record.Outcome = NeverWas
			return nil, invalidGrant(err)
		}
		answer["access_token"] = p.families.Access(family, record.Start).Text
		answer["refresh_token"], record.Next = family.Newest.Text, family.Newest.Serial
		maps.Copy(answer, p.options.Extra)
		return answer, nil
	}
	if current := p.tooEarly(req.refreshToken); current != nil {
		if p.options.TooEarly != (Answer{}) {
			record.Outcome = Early
			return nil, &oauthError{ownWords: p.options.TooEarly}
		}
		answer["access_token"] = current.Text
		answer["expires_in"] = int64(time.Until(current.Expires) / time.Second)
		return answer, nil
	}
	access, refresh, err := p.families.Exchange(req.refreshToken, record.Start)
	if err != nil {
		record.Outcome = outcomes[err]
		refusal = invalidGrant(err)
		refusal.ownWords = p.options.Dead
		return nil, refusal
	}
	answer["access_token"] = access.Text
	if refresh != nil {
		answer["refresh_token"], record.Next = refresh.Text, refresh.Serial
	}
	maps.Copy(answer, p.options.Extra)
	return answer, nil
}

// tooEarly returns the access token that the refresh token cannot replace yet; nil: it can.
func (p *Provider) tooEarly(refreshToken string) *testkit.AccessToken {
	if p.options.Early == 0 {
		return nil
	}
	t := p.families.RefreshToken(refreshToken)
	if !t.Works() {
		return nil
	}
	current := t.Family.Current()
	if current == nil || time.Until(current.Expires) <= p.options.Early {
		return nil
	}
	return current
}

func invalidGrant(err error) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: err.Error()}
}

func (e *oauthError) write(w http.ResponseWriter) {
	if e.ownWords != (Answer{}) {
		e.ownWords.write(w)
		return
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="token endpoint"`)
	}
	writeError(w, e.status, e.code, e.description)
}

func (a Answer) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(cmp.Or(a.Status, http.StatusBadRequest))
	_, _ = io.WriteString(w, a.Body)
}

// writeError writes an error answer, without a body where there is no code.
func writeError(w http.ResponseWriter, status int, code, description string) {
	if code == "" {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, map[string]any{"error": code, "error_description": description})
}

// writeJSON writes an answer that no cache may keep (RFC 6749 section 5.1).
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// drop closes the connection without an answer.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2: this resets the stream
		panic(http.ErrAbortHandler)
	}
	_ = conn.Close()
}

// cut sends half of a 200 and closes the connection.
func cut(w http.ResponseWriter, answer map[string]any) {
	body, _ := json.Marshal(answer)
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
