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
		{"control character", credentials.Key{Service: "github", Account: "a\x00b"}, credentials.Key{}, "at byte 1 the character U+0000"},
		{"line break", credentials.Key{Service: "github", Account: "a\nb"}, credentials.Key{}, "at byte 1 the character U+000A"},
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

// Names as people have them are taken, whatever their language; what cannot be seen is not.
func TestAccountNames(t *testing.T) {
	for _, account := range []string{
		"alice@example.com", "o'brien+tag@sub.example.co.uk", "https://login.example/u/1?x=%20&y#z", `DOMAIN\user`, "+49 30 123",
		"Åsa Öberg", "A\u030asa", "Владимир", "Γιώργος", "山田　太郎", "홍길동", "นิรันดร์", "عمر", "דוד", "١٢٣",
		"می\u200cخواهم", "क्\u200dष", "ශ්\u200dරී", // Persian, Hindi, Sinhala: spelt with joiners
		"葛\U000e0100城", "\u1820\u180b", // ideographic and Mongolian variants
		"❤\ufe0f\u200d🔥", "👩🏽\u200d💻", "👨\u200d👩\u200d👧", "🇩🇪", // emoji
		"\u0600٣", "a\u00a0b", "private \ue000",
	} {
		key := credentials.Key{Service: "github", Account: account}
		if got, err := key.Normalize(); err != nil || got != key {
			t.Errorf("%+q: got %+q, error %v; want it as it is", account, got.Account, err)
		}
	}
	for account, what := range map[string]string{
		"ali\u200bce": "U+200B", "ali\u200cce": "U+200C", "ali\u200dce": "U+200D", "al\u00adice": "U+00AD", "\ufeffalice": "U+FEFF",
		"alice\u200e": "U+200E", "\u202aalice@example.com": "U+202A", "alice\u202egpj.exe": "U+202E", "a\u2066b": "U+2066", "a\u061cb": "U+061C",
		"alice\ufe0f": "U+FE0F", "é\ufe0f": "U+FE0F", "e\u0301\ufe0f": "U+FE0F", "❤\ufe0f\ufe0f": "U+FE0F", "я\ufe0f": "U+FE0F",
		"می\u200c\u200cخواهم": "U+200C", "می\u200c": "U+200C", "\u200cمی": "U+200C", "می\u200cx": "U+200C",
		"a\u034fb": "U+034F", "\u3164": "U+3164", "a\u115fb": "U+115F", "a\u2028b": "U+2028", "a\u2029b": "U+2029", "a\u2800b": "U+2800",
		"a\U000e0041b": "U+E0041", "a\u180eb": "U+180E", "a\x7fb": "U+007F", "a\u0085b": "U+0085",
	} {
		_, err := credentials.Key{Service: "github", Account: account}.Normalize()
		if !errors.Is(err, credentials.ErrInvalidKey) || !strings.Contains(err.Error(), what+", which cannot be seen") {
			t.Errorf("%+q: got error %v; want ErrInvalidKey with %s", account, err, what)
		}
	}
}

func TestKeyString(t *testing.T) {
	for _, test := range []struct{ service, account, want string }{
		{"github", "alice", `github/alice`},
		{"github", "", `github`},
		{"a", "b/c", `a/b/c`},
		{"a/b", "c", `"a/b"/c`},
		{"a/b", "", `"a/b"`},
		{"a", "b", `a/b`},
		{"a", `"b"`, `a/"\"b\""`},
		{"a", `b"c`, `a/b"c`},
		{"a", "Åsa Öberg", `a/Åsa Öberg`},
		{"a", "می\u200cخواهم", "a/می\u200cخواهم"},
		{"a", "b\u00a0c", `a/"b\u00a0c"`},
		{"a", "b\u202ec", `a/"b\u202ec"`}, // a row that an earlier version stored
		{"a", "b\nc", `a/"b\nc"`},
		{"a", "b\xff", `a/"b\xff"`},
		{"", "b", `""/b`},
		{`"a`, "", `"\"a"`},
	} {
		if got := (credentials.Key{Service: test.service, Account: test.account}).String(); got != test.want {
			t.Errorf("service %q, account %q: got %s, want %s", test.service, test.account, got, test.want)
		}
	}
}

// No two keys have the same text, whatever they are made of.
func TestKeysDifferInPrint(t *testing.T) {
	words := []string{""}
	for _, first := range []string{"a", "/", `"`, `\`, " ", "\u202e", "\xff", "\n"} {
		for _, second := range []string{"", "b", "/", `"`, `\`, " "} {
			words = append(words, first+second)
		}
	}
	printed := make(map[string]credentials.Key)
	for _, service := range words {
		for _, account := range words {
			key := credentials.Key{Service: service, Account: account}
			if other, taken := printed[key.String()]; taken {
				t.Errorf("%q and %q are both printed as %s", key, other, key)
			}
			printed[key.String()] = key
		}
	}
}

// A normalized key stays as it is, obeys the rules, and is reached from every way of writing it.
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
			!utf8.ValidString(key.Account) || strings.ContainsFunc(key.Account, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Bidi_Control) }) || strings.TrimSpace(key.Account) != key.Account {
			t.Errorf("%q became %q", given, key)
		}
	})
}
