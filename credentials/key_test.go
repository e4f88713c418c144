package credentials_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/latchkey-go/latchkey/credentials"
)

func TestKeyNormalize(t *testing.T) {
	long := strings.Repeat("x", credentials.MaxServiceLength)
	account := strings.Repeat("é", credentials.MaxAccountLength)
	for _, test := range []struct {
		name      string
		key, want credentials.Key
		error     string // part of it; "" for none
	}{
		{"plain", alice, alice, ""},
		{"no account", credentials.Key{Service: "github"}, credentials.Key{Service: "github"}, ""},
		{"space and capitals", credentials.Key{Service: " GitHub ", Account: " Alice "}, credentials.Key{Service: "github", Account: "Alice"}, ""},
		{"blank account", credentials.Key{Service: "github", Account: "\t\n"}, credentials.Key{Service: "github"}, ""},
		{"punctuation", credentials.Key{Service: "a.b_c:d/e-f"}, credentials.Key{Service: "a.b_c:d/e-f"}, ""},
		{"one letter", credentials.Key{Service: "X"}, credentials.Key{Service: "x"}, ""},
		{"longest", credentials.Key{Service: long, Account: account}, credentials.Key{Service: long, Account: account}, ""},
		{"space inside the account", credentials.Key{Service: "github", Account: "a b"}, credentials.Key{Service: "github", Account: "a b"}, ""},
		{"empty", credentials.Key{}, credentials.Key{}, "is empty"},
		{"blank", credentials.Key{Service: " \n"}, credentials.Key{}, "is empty"},
		{"service too long", credentials.Key{Service: long + "x"}, credentials.Key{}, "101 bytes"},
		{"space inside", credentials.Key{Service: "git hub"}, credentials.Key{}, `' ' at byte 3`},
		{"foreign letter", credentials.Key{Service: "gíthub"}, credentials.Key{}, `'í' at byte 1`},
		{"not UTF-8", credentials.Key{Service: "git\xffhub"}, credentials.Key{}, `at byte 3`},
		{"punctuation first", credentials.Key{Service: "-github"}, credentials.Key{}, `'-' at byte 0`},
		{"punctuation last", credentials.Key{Service: "github/"}, credentials.Key{}, `'/' at byte 6`},
		{"percent", credentials.Key{Service: "git%hub"}, credentials.Key{}, `'%' at byte 3`},
		{"account too long", credentials.Key{Service: "github", Account: account + "x"}, credentials.Key{}, "191 characters"},
		{"account not UTF-8", credentials.Key{Service: "github", Account: "a\xff"}, credentials.Key{}, "not valid UTF-8"},
		{"control character", credentials.Key{Service: "github", Account: "a\x00b"}, credentials.Key{}, "control character at byte 1"},
		{"line break", credentials.Key{Service: "github", Account: "a\nb"}, credentials.Key{}, "control character at byte 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.key.Normalize()
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if test.error == "" {
				if err != nil {
					t.Errorf("got error %v", err)
				}
				return
			}
			if !errors.Is(err, credentials.ErrInvalidKey) || !strings.Contains(err.Error(), test.error) {
				t.Errorf("got error %v, want ErrInvalidKey with %q", err, test.error)
			}
			if len(err.Error()) > 400 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestKeyString(t *testing.T) {
	if got := alice.String(); got != "github/alice" {
		t.Errorf("got %q", got)
	}
	if got := (credentials.Key{Service: "github"}).String(); got != "github" {
		t.Errorf("got %q", got)
	}
}

// What is normalized stays as it is, is what the rules say, and is reached from every way of writing it.
func FuzzKeyNormalize(f *testing.F) {
	for _, key := range []credentials.Key{
		alice, {Service: " GitHub\u00a0", Account: "\u2003a b\x85"}, {Service: "\u212a", Account: "\xff"}, {Service: "İ"},
		{Service: "a", Account: strings.Repeat("é", 191)}, {Service: "a..b"}, {Service: "x\ufffd"}, {},
	} {
		f.Add(key.Service, key.Account)
	}
	f.Fuzz(func(t *testing.T, service, account string) {
		given := credentials.Key{Service: service, Account: account}
		key, err := given.Normalize()
		if err != nil {
			if !errors.Is(err, credentials.ErrInvalidKey) || key != (credentials.Key{}) {
				t.Errorf("%q: got key %q, error %v", given, key, err)
			}
			return
		}
		for _, same := range []credentials.Key{
			key,
			{Service: strings.ToUpper(key.Service), Account: key.Account},
			{Service: "\n " + key.Service + "\t", Account: " " + key.Account + "\r\n"},
		} {
			if again, err := same.Normalize(); err != nil || again != key {
				t.Errorf("%q became %q, but %q became %q, error %v", given, key, same, again, err)
			}
		}
		if len(key.Service) > credentials.MaxServiceLength || utf8.RuneCountInString(key.Account) > credentials.MaxAccountLength ||
			strings.ContainsFunc(key.Service, func(r rune) bool { return r <= ' ' || r > '~' || unicode.IsUpper(r) }) ||
			!utf8.ValidString(key.Account) || strings.ContainsFunc(key.Account, unicode.IsControl) || strings.TrimSpace(key.Account) != key.Account {
			t.Errorf("%q became %q", given, key)
		}
	})
}
