package providers

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// defaultAhead is how long before its end a token is due at most, where a service says nothing.
const defaultAhead = 5 * time.Minute

// Service returns the service for an app's client id and secret. The refresher is New's of package
// oauth2refresh with [Provider.Options]; Endpoint's error, if there is one, is that of
// credentials.NewManager. The policy follows from the facts:
//
//	fact                    policy
//	----------------------  ----------------------------------------------------------------------
//	Reuse ends more         Replay is NeverReplay: a refresh token of which nobody knows whether it
//	                        was used is given up rather than presented again, since that would
//	                        cost the grants of others.
//	Reuse ends nothing, or  Replay is ReplayTwice: to ask once more costs nothing.
//	  nothing rotates
//	Reuse is anything else  Replay is ReplayOnce: where reuse ends the grant alone, giving up would
//	  or not stated         end it too, and within Grace the replay rescues it.
//	Lifetime                MaxLifetime; with Early, DefaultLifetime: a provider that has come to
//	                        issue longer lives would refuse to end one by the page's word.
//	IdleLimit               KeepAlive is half of it.
//	Early                   RefreshAhead is half of it, if that is below the usual 5 minutes.
func (p Provider) Service(clientID, clientSecret string) credentials.Service {
	service := p.policy()
	endpoint, err := p.Endpoint()
	if err != nil {
		service.Refresher = unplaced{err}
		return service
	}
	service.Refresher = oauth2refresh.New(oauth2.Config{
		ClientID: clientID, ClientSecret: clientSecret, Endpoint: endpoint,
	}).With(p.Options())
	return service
}

// policy returns what follows from the facts, without Refresher.
func (p Provider) policy() (service credentials.Service) {
	switch {
	case p.Reuse.Value == ReuseEndsMore:
		service.Replay = credentials.NeverReplay
	case p.Reuse.Value == ReuseEndsNothing, p.Rotation.Value == NeverRotates:
		service.Replay = credentials.ReplayTwice
	}
	if p.Early.Stated() {
		service.DefaultLifetime = p.Lifetime.Value
	} else {
		service.MaxLifetime = p.Lifetime.Value
	}
	service.KeepAlive = p.IdleLimit.Value / 2
	if ahead := p.Early.Value / 2; ahead < defaultAhead {
		service.RefreshAhead = ahead
	}
	return service
}

// At returns the provider with its regional, tenant's or own address: place stands for the
// placeholder in TokenURL. [Provider.Endpoint] reports a place that cannot be one.
func (p Provider) At(place string) Provider {
	p.place = place
	return p
}

// placeholder matches the one of a token URL, and validPlace a part of a host's or tenant's name,
// or a host with a port.
var (
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
	validPlace  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
)

// Endpoint returns the token endpoint, for an [oauth2.Config] of one's own; AuthURL is empty. The
// error says that a place is missing, or was given and cannot be used.
func (p Provider) Endpoint() (oauth2.Endpoint, error) {
	hole := placeholder.FindString(p.TokenURL.Value)
	switch {
	case hole == "" && p.place != "":
		return oauth2.Endpoint{}, fmt.Errorf("providers: %s has one token endpoint for all; leave At(%q) out",
			p.Title, p.place)
	case hole != "" && p.place == "":
		return oauth2.Endpoint{}, fmt.Errorf("providers: %s has more than one token endpoint; "+
			"say with At what stands for %s in %s, such as %s", p.Title, hole, p.TokenURL.Value, p.Places)
	case hole != "" && !validPlace.MatchString(p.place):
		return oauth2.Endpoint{}, fmt.Errorf("providers: At(%q) cannot stand for %s in %s of %s; use one such as %s",
			p.place, hole, p.TokenURL.Value, p.Title, p.Places)
	}
	return oauth2.Endpoint{
		TokenURL:  p.placed(p.TokenURL.Value),
		AuthStyle: p.AuthStyle.Value,
	}, nil
}

// placed returns the address with the place in it.
func (p Provider) placed(address string) string {
	return placeholder.ReplaceAllLiteralString(address, p.place)
}

// unplaced is the refresher of a provider whose Endpoint is an error.
type unplaced struct{ err error }

// Check returns the error: credentials.NewManager asks for it.
func (u unplaced) Check() error { return u.err }

// Refresh presents nothing.
func (u unplaced) Refresh(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
	return credentials.Grant{}, &credentials.RefreshError{
		Class: credentials.ClassTransient, Reason: u.err.Error(), Err: u.err,
	}
}
