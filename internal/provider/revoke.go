package provider

import "net/http"

// revoke is the revocation endpoint (RFC 7009): the token's whole family ends, and a token that was
// never issued is no error (section 2.2).
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	form, refusal := readForm(w, r)
	if refusal == nil {
		_, refusal = p.authenticate(r, form)
	}
	if refusal == nil && form.Get("token") == "" {
		refusal = invalidRequest("token is missing")
	}
	if refusal != nil {
		refusal.write(w)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.families.RefreshToken(form.Get("token")); t != nil {
		t.Family.Revoke()
	}
	w.WriteHeader(http.StatusOK)
}
