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
	{"a token that does not expire, as Never", putNever},
	{"a refresh token alone is due at once", putSeed},
	{"nothing at all is due at once", putNothing},
	{"tokens come back byte by byte", putBytes},
	{"what came beside the token comes back letter by letter", putExtra},
	{"the store keeps its own copy of the extras", putCopies},
	{"a new grant replaces all of the old one", putReplaces},
	{"a put ends a lease", putEndsLease},
	{"a put ends a back-off", putEndsBackOff},
	{"a put ends an interruption", putEndsInterruption},
	{"the last refresh stays known", putKeepsRefreshed},
	{"a refused grant leaves the row as it was", putRefused},
}

func putNew(s *subject) {
	g := credentials.Grant{
		Token: credentials.NewSecret("access"), RefreshToken: credentials.NewSecret("refresh"),
		Lifetime: time.Hour, RefreshLifetime: 30 * 24 * time.Hour,
		Extra: secrets(map[string]string{"scope": "read write", "instance_url": "https://eu1.example.com/?a=1&b=2"}),
	}
	s.put(g)
	c := s.get()
	holds(s, c, g)
	equal(s, "Key", c.Key, s.key)
	if c.Row == 0 {
		s.Error("Row: got 0, which names no row")
	}
	equal(s, "Version", c.Version, 1)
	equal(s, "TokenVersion", c.TokenVersion, 1)
	left(s, "ExpiresIn", c.ExpiresIn, g.Lifetime)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, g.RefreshLifetime)
	left(s, "DueIn", c.DueIn, credentials.DueIn(g.Lifetime))
	free(s, c)
	equal(s, "Refreshed", c.Refreshed, credentials.Refreshed{})
	state(s, c, credentials.Fresh)
}

func putShortRefreshToken(s *subject) {
	refresh := 10 * 24 * time.Hour
	for name, g := range map[string]credentials.Grant{
		"a token that lives longer":       {Token: credentials.NewSecret("access"), Lifetime: 9 * refresh, RefreshLifetime: refresh},
		"a token that does not expire":    {Token: credentials.NewSecret("access"), RefreshLifetime: refresh},
		"a token that lives a bit longer": {Token: credentials.NewSecret("access"), Lifetime: refresh + time.Minute, RefreshLifetime: refresh},
	} {
		s.put(g)
		left(s, "DueIn of "+name, s.get().DueIn, credentials.DueIn(refresh))
	}
}

func putEndless(s *subject) {
	s.put(credentials.Grant{Token: credentials.NewSecret("access")})
	c := s.get()
	equal(s, "ExpiresIn", c.ExpiresIn, credentials.Never)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
	equal(s, "DueIn", c.DueIn, credentials.Never)
	state(s, c, credentials.Fresh)
}

func putNever(s *subject) {
	s.put(credentials.Grant{
		Token: credentials.NewSecret("access"), Lifetime: credentials.Never, RefreshLifetime: credentials.Never,
	})
	c := s.get()
	equal(s, "ExpiresIn", c.ExpiresIn, credentials.Never)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
	equal(s, "DueIn", c.DueIn, credentials.Never)
}

func putSeed(s *subject) {
	g := credentials.Grant{RefreshToken: credentials.NewSecret("refresh"), RefreshLifetime: time.Hour}
	s.put(g)
	c := s.get()
	holds(s, c, g)
	left(s, "ExpiresIn", c.ExpiresIn, 0)
	left(s, "RefreshExpiresIn", c.RefreshExpiresIn, g.RefreshLifetime)
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.Claimable)
}

func putNothing(s *subject) {
	s.put(credentials.Grant{})
	c := s.get()
	holds(s, c, credentials.Grant{})
	left(s, "DueIn", c.DueIn, 0)
	state(s, c, credentials.Claimable)
	s.claim("A", long)
}

func putBytes(s *subject) {
	var every strings.Builder
	for b := range 256 {
		every.WriteByte(byte(b))
	}
	for _, token := range []string{
		every.String(),
		" spaces around, the last ones too  ",
		"\x00", "0", "\xff\xfe not UTF-8 \xc3", `'; "\\ %s ? :token ` + "`", "\r\n\x1a\t", "zażółć 漢字 🔑",
		strings.Repeat("x", 4096), strings.Repeat("\x00\xff", credentials.MaxTokenLength/2),
	} {
		// Once as put, once as saved.
		s := s.fresh()
		g := credentials.Grant{
			Token: credentials.NewSecret(token), RefreshToken: credentials.NewSecret(token), Lifetime: time.Hour,
		}
		s.put(g)
		c := s.get()
		holds(s, c, g)

		c, made := s.tryClaim(credentials.Claim{Lease: long, Rejected: c.Token})
		if !made {
			s.Errorf("Claim with the rejected token %q: refused", clip(token))
			continue
		}
		holds(s, c, g)
		r := renewal("A")
		r.Token, r.RefreshToken = credentials.NewSecret(token+"."), credentials.NewSecret("."+token)
		s.save(c, r)
		s.has(r)
	}
}

func putExtra(s *subject) {
	g := credentials.Grant{
		Token: credentials.NewSecret("access"),
		Extra: secrets(map[string]string{
			"scope": "a b", "Scope": "capitals count", "id_token": strings.Repeat("e", 8192),
			"quotes": `"\'` + "`", "html": "<a&b>", "lines": "\r\n\t\x00\u2028", "ключ": "значение 🔑",
			"": "no name", "json": `{"a":[1,null]}`, " spaces ": "  ",
		}),
	}
	s.put(g)
	holds(s, s.get(), g)
}

func putCopies(s *subject) {
	extra := secrets(map[string]string{"scope": "as put"})
	s.put(credentials.Grant{Token: credentials.NewSecret("access"), Extra: extra})
	want := credentials.Grant{Token: credentials.NewSecret("access"), Extra: secrets(map[string]string{"scope": "as put"})}

	extra["scope"] = credentials.NewSecret("changed by the one who put it")
	c := s.get()
	holds(s, c, want)
	c.Extra["scope"] = credentials.NewSecret("changed by the one who got it")
	holds(s, s.get(), want)
}

func putReplaces(s *subject) {
	s.put(credentials.Grant{
		Token: credentials.NewSecret("old"), RefreshToken: credentials.NewSecret("old"),
		Lifetime: time.Hour, RefreshLifetime: time.Hour, Extra: secrets(map[string]string{"scope": "old", "old": "yes"}),
	})
	before := s.get()
	g := credentials.Grant{
		Token: credentials.NewSecret("new"), Lifetime: 3 * time.Hour, Extra: secrets(map[string]string{"scope": "new"}),
	}
	s.put(g)
	c := s.get()
	holds(s, c, g)
	equal(s, "Row", c.Row, before.Row)
	equal(s, "Version", c.Version, before.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, c.Version)
	left(s, "ExpiresIn", c.ExpiresIn, g.Lifetime)
	equal(s, "RefreshExpiresIn", c.RefreshExpiresIn, credentials.Never)
	left(s, "DueIn", c.DueIn, credentials.DueIn(g.Lifetime))
}

// putOver puts a grant over the credential in its present state, and checks that only the grant is left of it.
func putOver(s *subject) {
	s.Helper()
	before := s.get()
	g := renewal("put").Grant
	s.put(g)
	c := s.get()
	holds(s, c, g)
	equal(s, "Row", c.Row, before.Row)
	equal(s, "Version", c.Version, before.Version+1)
	equal(s, "TokenVersion", c.TokenVersion, c.Version)
	left(s, "DueIn", c.DueIn, credentials.DueIn(g.Lifetime))
	free(s, c)
	state(s, c, credentials.Fresh)

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
	s.fail(s.claim("A", long), failure(credentials.Transient))
	putOver(s)
}

func putEndsInterruption(s *subject) {
	s.seed()
	s.lapsed("A")
	s.fail(s.claim("B", long), failure(credentials.Unknown))
	putOver(s)
}

func putKeepsRefreshed(s *subject) {
	s.seed()
	s.save(s.claim("A", long), renewal("A"))
	s.seed()
	c := s.get()
	equal(s, "Refreshed.By", c.Refreshed.By, "A")
	ago(s, "Refreshed.Ago", c.Refreshed.Ago, 0)
}

func putRefused(s *subject) {
	tooLong := credentials.NewSecret(strings.Repeat("t", credentials.MaxTokenLength+1))
	grants := map[string]credentials.Grant{
		"a negative lifetime":              {Token: credentials.NewSecret("t"), Lifetime: -time.Second},
		"a negative refresh lifetime":      {RefreshToken: credentials.NewSecret("r"), RefreshLifetime: -time.Second},
		"a lifetime without a token":       {Lifetime: time.Hour},
		"a token that is too long":         {Token: tooLong},
		"a refresh token that is too long": {RefreshToken: tooLong},
	}
	for name, g := range grants {
		if err := s.store.Put(s.Context(), s.key, g); !errors.Is(err, credentials.ErrInvalidGrant) {
			s.Errorf("Put of %s: got error %v, want ErrInvalidGrant", name, err)
		}
		missing(s)
	}
	s.put(renewal("good").Grant)
	before := s.get()
	for name, g := range grants {
		if err := s.store.Put(s.Context(), s.key, g); !errors.Is(err, credentials.ErrInvalidGrant) {
			s.Errorf("Put of %s over a credential: got error %v, want ErrInvalidGrant", name, err)
		}
		s.unchanged(before)
	}
}
