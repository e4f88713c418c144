package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

var putTests = []test{
	{"new: every field comes back", putNew},
	{"due before the refresh token ends, if that is sooner", putShortRefreshToken},
	{"a token that does not expire", putEndless},
	{"a refresh token alone is due at once", putSeed},
	{"nothing at all is due at once", putNothing},
	{"tokens come back byte by byte", putBytes},
	{"what came beside the token comes back letter by letter", putExtra},
	{"the store keeps its own copy of the extras", putCopies},
	{"a new grant replaces all of the old one", putReplaces},
	{"a put ends a lease", putEndsLease},
	{"a put ends a back-off", putEndsBackOff},
	{"a put ends an interruption", putEndsInterruption},
	{"its token is from no exchange", putEndsRefreshed},
	{"a refused grant leaves the row as it was", putRefused},
}

func putNew(s *subject) {
	g := credentials.Grant{
		AccessToken: secret("access"), RefreshToken: secret("refresh"),
		Lifetime: time.Hour, RefreshLifetime: 30 * 24 * time.Hour,
		Extra: secrets(map[string]string{"scope": "read write", "instance_url": "https://eu1.example.com/?a=1&b=2"}),
	}
	c := s.put(g)
	equal(s, "Key", c.Key, s.key)
	if c.Row == 0 {
		s.Error("Row: got 0, which names no row")
	}
	hasVersions(s, c, 1, 1)
	left(s, "ExpiresIn", c.ExpiresIn, g.Lifetime)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, g.RefreshLifetime)
	left(s, "DueIn", c.DueIn, credentials.DueIn(g.Lifetime))
	free(s, c)
	equal(s, "Refreshed", c.Refreshed, credentials.Refreshed{})
	state(s, c, credentials.StateFresh)
}

func putShortRefreshToken(s *subject) {
	refresh := 10 * 24 * time.Hour
	for name, g := range map[string]credentials.Grant{
		"a token that lives longer":       {Lifetime: 9 * refresh},
		"a token that does not expire":    {},
		"a token that lives a bit longer": {Lifetime: refresh + time.Minute},
	} {
		g.AccessToken, g.RefreshLifetime = secret("access"), refresh
		left(s, "DueIn of "+name, s.put(g).DueIn, credentials.DueIn(refresh))
	}
}

func putEndless(s *subject) {
	for _, lifetime := range []time.Duration{0, credentials.Never} {
		endless(s, s.put(credentials.Grant{
			AccessToken: secret("access"), Lifetime: lifetime, RefreshLifetime: lifetime,
		}))
	}
}

// endless fails the test unless the credential is good for ever.
func endless(s *subject, c credentials.Credential) {
	s.Helper()
	equal(s, "ExpiresIn", c.ExpiresIn, credentials.Never)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
	equal(s, "DueIn", c.DueIn, credentials.Never)
	state(s, c, credentials.StateFresh)
}

func putSeed(s *subject) {
	g := credentials.Grant{RefreshToken: secret("refresh"), RefreshLifetime: time.Hour}
	c := s.put(g)
	left(s, "ExpiresIn", c.ExpiresIn, 0)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, g.RefreshLifetime)
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
}

func putNothing(s *subject) {
	c := s.put(credentials.Grant{})
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.StateClaimable)
	s.claim("A", long)
}

func putBytes(s *subject) {
	var every strings.Builder
	for b := 255; b >= 0; b-- { // a zero byte in front is refused
		every.WriteByte(byte(b))
	}
	for _, token := range []string{
		every.String(),
		" spaces around, the last ones too  ",
		".\x00", "0", "\xff\xfe not UTF-8 \xc3", `'; "\\ %s ? :token ` + "`", "\r\n\x1a\t", "zażółć 漢字 🔑",
		strings.Repeat("x", 4096), strings.Repeat("\xff\x00", credentials.MaxTokenLength/2-1),
	} {
		// The token is stored once as put, once as saved.
		s := s.fresh()
		g := credentials.Grant{
			AccessToken: secret(token), RefreshToken: secret(token), Lifetime: time.Hour,
		}
		s.put(g)
		c := s.claimInvalidating("A")
		holds(s, c, g)
		r := renewal("A")
		r.AccessToken, r.RefreshToken = secret(token+"."), secret("."+token)
		s.save(c, r)
	}
}

func putExtra(s *subject) {
	s.put(credentials.Grant{
		AccessToken: secret("access"),
		Extra: secrets(map[string]string{
			"scope": "a b", "Scope": "capitals count", "id_token": strings.Repeat("e", 8192),
			"quotes": `"\'` + "`", "html": "<a&b>", "lines": "\r\n\t\x00\u2028", "ключ": "значение 🔑",
			"": "no name", "json": `{"a":[1,null]}`, " spaces ": "  ",
		}),
	})
}

func putCopies(s *subject) {
	grant := func() credentials.Grant {
		return credentials.Grant{
			AccessToken: secret("access"), Extra: secrets(map[string]string{"scope": "as put"}),
		}
	}
	g := grant()
	s.put(g)
	g.Extra["scope"] = secret("changed by the one who put it")
	c := s.has(grant())
	c.Extra["scope"] = secret("changed by the one who got it")
	s.has(grant())
}

func putReplaces(s *subject) {
	before := s.put(credentials.Grant{
		AccessToken: secret("old"), RefreshToken: secret("old"),
		Lifetime: time.Hour, RefreshLifetime: time.Hour,
		Extra: secrets(map[string]string{"scope": "old", "old": "yes"}),
	})
	g := credentials.Grant{
		AccessToken: secret("new"), Lifetime: 3 * time.Hour,
		Extra: secrets(map[string]string{"scope": "new"}),
	}
	c := s.put(g)
	equal(s, "Row", c.Row, before.Row)
	hasVersions(s, c, before.Version+1, c.Version)
	left(s, "ExpiresIn", c.ExpiresIn, g.Lifetime)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
	left(s, "DueIn", c.DueIn, credentials.DueIn(g.Lifetime))
}

// putOver puts a grant over the credential in its present state, and fails the test unless only the
// grant is left of it.
func putOver(s *subject) {
	s.Helper()
	before := s.get()
	g := renewal("put").Grant
	c := s.put(g)
	equal(s, "Row", c.Row, before.Row)
	hasVersions(s, c, before.Version+1, c.Version)
	left(s, "DueIn", c.DueIn, credentials.DueIn(g.Lifetime))
	free(s, c)
	state(s, c, credentials.StateFresh)

	s.seed()
	clean(s, s.claim("after the put", long))
}

func putEndsLease(s *subject) {
	s.seed()
	s.claim("A", long)
	putOver(s)
}

func putEndsBackOff(s *subject) {
	s.seed()
	s.fail(s.claim("A", long), failure(credentials.ClassTransient))
	putOver(s)
}

func putEndsInterruption(s *subject) {
	s.seed()
	s.lapsed("A")
	s.fail(s.claim("B", long), failure(credentials.ClassUnknown))
	putOver(s)
}

func putEndsRefreshed(s *subject) {
	s.seed()
	s.save(s.claim("A", long), renewal("A"))
	equal(s, "Refreshed", s.seed().Refreshed, credentials.Refreshed{Took: renewal("A").Took})
}

func putRefused(s *subject) {
	tooLong := secret(strings.Repeat("t", credentials.MaxTokenLength+1))
	tooLarge := secrets(map[string]string{"x": strings.Repeat("x", credentials.MaxExtraSize)})
	grants := map[string]credentials.Grant{
		"a negative lifetime":              {AccessToken: secret("t"), Lifetime: -time.Second},
		"a negative refresh lifetime":      {RefreshToken: secret("r"), RefreshLifetime: -time.Second},
		"a lifetime without a token":       {Lifetime: time.Hour},
		"a token that is too long":         {AccessToken: tooLong},
		"a refresh token that is too long": {RefreshToken: tooLong},
		"a token with a zero byte first":   {AccessToken: secret("\x00t")},
		"a refresh token with one":         {RefreshToken: secret("\x00r")},
		"extras that are too large":        {Extra: tooLarge},
	}
	refused := func(over string) {
		s.Helper()
		for name, g := range grants {
			if err := s.store.Put(s.Context(), s.key, g); !errors.Is(err, credentials.ErrInvalidGrant) {
				s.Errorf("Put of %s over %s: got error %v, want ErrInvalidGrant", name, over, err)
			}
		}
	}
	refused("nothing")
	missing(s)
	before := s.put(renewal("good").Grant)
	refused("a credential")
	s.unchanged(before)
}
