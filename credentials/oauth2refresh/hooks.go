package oauth2refresh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// consult asks a hook about an answer. A hook that panics, or does not return before ctx ends,
// leaves the answer to this package: nothing that the provider said is lost.
func consult[T any](ctx context.Context, hook func() (T, bool)) (value T, ok bool) {
	type reply struct {
		value T
		ok    bool
	}
	r, err := guard(ctx, func() (reply, error) {
		value, ok := hook()
		return reply{value, ok}, nil
	})
	return r.value, r.ok && err == nil
}

// guard runs a function of the host's. The error says that it failed, panicked, ended its goroutine
// or did not return before ctx ended; the text has nothing of the function's own.
func guard[T any](ctx context.Context, run func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		o := outcome{err: errors.New("ended its goroutine")}
		defer func() {
			if v := recover(); v != nil { // which may quote a secret
				o.err = fmt.Errorf("panicked with a %T", v)
			}
			done <- o
		}()
		value, err := run()
		if o = (outcome{value: value}); err != nil {
			o.err = &hookError{err}
		}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, errors.New("did not return in time")
	}
}

// hookError is an error that a hook returned, whose text may quote a secret.
type hookError struct{ err error }

// Error names the type alone.
func (e *hookError) Error() string { return fmt.Sprintf("returned an error of type %T", e.err) }

// addition is what hooks add to a request.
type addition struct {
	params url.Values
	header http.Header

	basicID, basicSecret credentials.Secret // for HTTP Basic without form encoding
}

// ownParams are those of the exchange itself. A hook that named one would present another token.
var ownParams = []string{"grant_type", "refresh_token", "code", "token"}

// ownFields are the header fields that describe the body.
var ownFields = []string{"Content-Type", "Content-Length", "Transfer-Encoding"}

// addition asks the hooks of the request, in half of the time that is left, so that there is time
// to present. The error is a failure for which nothing was presented.
func (r *Refresher) addition(
	ctx context.Context, in credentials.RefreshInput,
) (*addition, *credentials.RefreshError) {
	var a addition
	if r.options.PlainBasic {
		a.basicID, a.basicSecret = credentials.NewSecret(r.clientID), r.secret
	}
	if r.options.Params == nil && r.options.Header == nil {
		return &a, nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	var err error
	if hook := r.options.Params; hook != nil {
		a.params, err = guard(ctx, func() (url.Values, error) { return hook(ctx, in) })
		if err != nil {
			return nil, hookFailed("Params", err)
		}
		for _, name := range ownParams {
			if _, ok := a.params[name]; ok {
				return nil, hookFailed("Params", fmt.Errorf("named %s, which the exchange itself sets", name))
			}
		}
	}
	if hook := r.options.Header; hook != nil {
		a.header, err = guard(ctx, func() (http.Header, error) { return hook(ctx, in) })
		if err != nil {
			return nil, hookFailed("Header", err)
		}
		for _, name := range ownFields {
			if a.header.Get(name) != "" {
				return nil, hookFailed("Header", fmt.Errorf("named %s, which describes the body", name))
			}
		}
	}
	return &a, nil
}

// hookFailed is the failure of an exchange whose hook failed. The hook's own error is for errors.Is
// and errors.As alone.
func hookFailed(name string, err error) *credentials.RefreshError {
	e := &credentials.RefreshError{
		Class: credentials.ClassTransient, Reason: fmt.Sprintf("Options.%s %v; nothing was presented", name, err),
	}
	var returned *hookError
	if errors.As(err, &returned) {
		e.Err = returned.err
	}
	return e
}

// minSecret is the shortest value of a hook that is taken for a secret: shorter ones are words.
const minSecret = 12

// secrets returns what was sent and may be secret.
func (a *addition) secrets() (secrets []string) {
	for _, named := range []map[string][]string{a.params, a.header} {
		for _, values := range named {
			for _, value := range values {
				if len(value) >= minSecret {
					secrets = append(secrets, value)
				}
			}
		}
	}
	return secrets
}

// apply adds to the request and returns its body.
func (a *addition) apply(request *http.Request, body []byte) ([]byte, error) {
	if !a.basicID.IsZero() && request.Header.Get("Authorization") != "" {
		request.SetBasicAuth(a.basicID.Reveal(), a.basicSecret.Reveal())
	}
	for name, values := range a.header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	if len(a.params) == 0 {
		return body, nil
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the request's body is no form")
	}
	for name, values := range a.params {
		form[name] = values
	}
	return []byte(form.Encode()), nil
}
