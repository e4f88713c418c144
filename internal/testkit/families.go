package testkit

import (
	"crypto/rand"
	"errors"
	"time"
)

// A provider answers with one of these that a refresh token does not work: invalid_grant.
var (
	ErrNeverIssued = errors.New("unknown refresh token")
	ErrRevoked     = errors.New("the authorization was revoked")
	ErrReused      = errors.New("the refresh token was used before")
)

// Families are the token families of a provider, and its rules for them. The zero Families rotate,
// and a used refresh token that comes back revokes its family (RFC 9700 section 4.14.2). The caller
// guards them.
type Families struct {
	// Lifetime is how long access tokens live. Zero: an hour.
	Lifetime time.Duration

	// Grace is how long after its use a refresh token that comes back gets a new answer. Zero: not
	// at all.
	Grace time.Duration

	// Lenient refuses a used refresh token that comes back, and leaves its family as it is.
	Lenient bool

	// Keep leaves the refresh token as it is: none is answered.
	Keep bool

	// EndOld ends a family's access token as soon as the next one is issued, as Ory Hydra does.
	EndOld bool

	// Same issues a family's access token again, with a new life.
	Same bool

	// Text makes the text of a token, of the kind "refresh" or "access"; nil: at random.
	Text func(kind, account string) string

	refresh  map[string]*RefreshToken
	access   map[string]*AccessToken
	families int64
	serials  int64
}

// Family is the result of one authorization: a chain of refresh tokens of which the newest works.
type Family struct {
	ID      int64 // from 1
	Account string
	Revoked bool
	Newest  *RefreshToken

	access []*AccessToken // those that have not ended
}

// RefreshToken is one that was issued.
type RefreshToken struct {
	Text   string
	Family *Family
	Serial int64     // from 1
	Used   time.Time // when a newer one took its place; zero for the newest
}

// AccessToken is one that was issued.
type AccessToken struct {
	Text      string
	Account   string
	Presented time.Time // when the request that it answers arrived; zero: an authorization
	Issued    time.Time
	Expires   time.Time
	Ended     bool // ahead of its expiry
}

// Works reports whether the token is its family's newest and the family is not revoked. A nil token
// was never issued.
func (t *RefreshToken) Works() bool {
	return t != nil && t.Family.Newest == t && !t.Family.Revoked
}

// Works reports whether an API takes the token now. A nil token was never issued.
func (t *AccessToken) Works() bool {
	return t != nil && !t.Ended && time.Now().Before(t.Expires)
}

// Authorize begins a family with a refresh token. Earlier families of the account go on.
func (f *Families) Authorize(account string) *Family {
	return f.Adopt(account, f.text("refresh", account))
}

// Adopt is Authorize for a refresh token that has its text already.
func (f *Families) Adopt(account, refreshToken string) *Family {
	f.families++
	family := &Family{ID: f.families, Account: account}
	f.rotate(family, refreshToken)
	return family
}

// RefreshToken returns the token of that text, nil if none was issued.
func (f *Families) RefreshToken(text string) *RefreshToken { return f.refresh[text] }

// AccessToken returns the token of that text, nil if none was issued.
func (f *Families) AccessToken(text string) *AccessToken { return f.access[text] }

// AccessTokens calls yield for every access token, in no order.
func (f *Families) AccessTokens(yield func(*AccessToken) bool) {
	for _, t := range f.access {
		if !yield(t) {
			return
		}
	}
}

// Revoke ends every family of the account, as a person does who withdraws the authorization.
func (f *Families) Revoke(account string) {
	for _, t := range f.refresh {
		if t.Family.Account == account {
			t.Family.Revoke()
		}
	}
}

// Revoke ends the family and the access tokens that came from it.
func (f *Family) Revoke() {
	f.Revoked = true
	f.endAccess()
}

// Current returns the newest access token, nil if that does not work any more.
func (f *Family) Current() *AccessToken {
	if n := len(f.access); n > 0 && f.access[n-1].Works() {
		return f.access[n-1]
	}
	return nil
}

func (f *Family) endAccess() {
	for _, t := range f.access {
		t.Ended = true
	}
	f.access = nil
}

// Exchange takes effect: the refresh token, which was presented at that time, is used up, and the
// next tokens are issued. The new refresh token is nil where it is kept.
func (f *Families) Exchange(
	refreshToken string, presented time.Time,
) (*AccessToken, *RefreshToken, error) {
	t := f.refresh[refreshToken]
	switch {
	case t == nil:
		return nil, nil, ErrNeverIssued
	case t.Family.Revoked:
		return nil, nil, ErrRevoked
	case t.Used.IsZero():
	case f.Lenient:
		return nil, nil, ErrReused
	case time.Since(t.Used) >= f.Grace:
		t.Family.Revoke()
		return nil, nil, ErrReused
	}
	access := f.Access(t.Family, presented)
	if f.Keep {
		return access, nil, nil
	}
	f.rotate(t.Family, f.text("refresh", t.Family.Account))
	return access, t.Family.Newest, nil
}

// rotate has the text be the family's newest refresh token.
func (f *Families) rotate(family *Family, text string) {
	if family.Newest != nil {
		family.Newest.Used = time.Now()
	}
	f.serials++
	family.Newest = &RefreshToken{Text: text, Family: family, Serial: f.serials}
	if f.refresh == nil {
		f.refresh = make(map[string]*RefreshToken)
	}
	f.refresh[text] = family.Newest
}

// Access issues the family's next access token.
func (f *Families) Access(family *Family, presented time.Time) *AccessToken {
	n := len(family.access)
	if f.Same && n > 0 {
		family.access[n-1].Expires = time.Now().Add(f.lifetime())
		return family.access[n-1]
	}
	if f.EndOld {
		family.endAccess()
	}
	t := f.Issue(family.Account, presented)
	family.access = append(family.access, t)
	return t
}

// Issue issues an access token of no family, as for client_credentials.
func (f *Families) Issue(account string, presented time.Time) *AccessToken {
	now := time.Now()
	t := &AccessToken{
		Text: f.text("access", account), Account: account, Presented: presented,
		Issued: now, Expires: now.Add(f.lifetime()),
	}
	if f.access == nil {
		f.access = make(map[string]*AccessToken)
	}
	f.access[t.Text] = t
	return t
}

func (f *Families) lifetime() time.Duration {
	if f.Lifetime == 0 {
		return time.Hour
	}
	return f.Lifetime
}

func (f *Families) text(kind, account string) string {
	if f.Text == nil {
		return kind + "-" + rand.Text()
	}
	return f.Text(kind, account)
}
