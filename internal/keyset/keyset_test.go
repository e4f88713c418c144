package keyset_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/internal/keyset"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails fails the test unless the error has that text in it.
func fails(t testing.TB, what string, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got error %v, want one with %q", what, err, text)
	}
}

func newKeyset(t testing.TB) *keyset.Keyset {
	t.Helper()
	k, err := keyset.New()
	must(t, err)
	return k
}

func textOf(t testing.TB, k *keyset.Keyset) []byte {
	t.Helper()
	text, err := k.Text()
	must(t, err)
	return text
}

// materials are the keys of a keyset in the forms in which they could be written by mistake.
func materials(t testing.TB, text []byte) []string {
	t.Helper()
	forms, err := testkit.KeyMaterial(text)
	must(t, err)
	return forms
}

// opens reports whether one keyset opens what another sealed, as a store would have it.
func opens(t testing.TB, opener, sealer *keyset.Keyset) bool {
	t.Helper()
	from, err := sealer.AEAD()
	must(t, err)
	sealed, err := from.Encrypt([]byte("token"), []byte("row"))
	must(t, err)
	to, err := opener.AEAD()
	must(t, err)
	opened, err := to.Decrypt(sealed, []byte("row"))
	return err == nil && string(opened) == "token"
}

func clone(t testing.TB, k *keyset.Keyset) *keyset.Keyset {
	t.Helper()
	c, err := keyset.Parse(textOf(t, k))
	must(t, err)
	return c
}

// TestRotation: a key that was added opens before it seals, so that the processes of a service may
// get the keyset one after the other.
func TestRotation(t *testing.T) {
	old := newKeyset(t)
	first := old.Newest().ID

	added := clone(t, old)
	second, err := added.Add()
	must(t, err)
	if !opens(t, old, added) || !opens(t, added, old) {
		t.Error("with a key added and not promoted, old and new processes do not open each other's values")
	}
	promoted := clone(t, added)
	must(t, promoted.Promote(second))
	if !opens(t, added, promoted) || !opens(t, promoted, added) {
		t.Error("processes before and after the promotion do not open each other's values")
	}
	if opens(t, old, promoted) {
		t.Error("the promoted key does not seal")
	}
	want := []keyset.Key{{ID: first}, {ID: second, Primary: true}}
	if got := promoted.Keys(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Keys: got %v, want %v", got, want)
	}

	retired := clone(t, promoted)
	must(t, retired.Retire(first))
	if opens(t, retired, old) {
		t.Error("a retired key opens")
	}
	fails(t, "Promote of a retired key", retired.Promote(first), "is retired")
	retired = clone(t, retired)
	must(t, retired.Restore(first))
	if !opens(t, retired, old) {
		t.Error("a key that was restored does not open")
	}
	must(t, retired.Delete(first))
	if opens(t, retired, old) || len(retired.Keys()) != 1 {
		t.Errorf("a deleted key is there: %v", retired)
	}
	for what, err := range map[string]error{
		"Retire": retired.Retire(second), "Delete": retired.Delete(second),
	} {
		fails(t, what+" of the primary", err, "is the primary")
	}
	for what, err := range map[string]error{
		"Promote": retired.Promote(first), "Retire": retired.Retire(first),
		"Restore": retired.Restore(first), "Delete": retired.Delete(first),
	} {
		fails(t, what+" of a key that is not there", err, "has no key")
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	good := string(textOf(t, newKeyset(t)))
	damaged := func(member, replacement string) string { // protojson draws where it puts spaces
		return regexp.MustCompile(member).ReplaceAllString(good, replacement)
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":          {"", "is empty"},
		"blank":          {" \n", "is empty"},
		"not JSON":       {damaged(`"value":\s*"(.*?)"`, `"value":$1`), "no Tink keyset"},
		"cut off":        {good[:len(good)/2], "no Tink keyset"},
		"bare key":       {"hunter2hunter2hunter2hunter2hunt", "no Tink keyset"},
		"no keys":        {`{"primaryKeyId": 1}`, "Tink keyset"},
		"other primary":  {damaged(`"primaryKeyId":\s*\d+`, `"primaryKeyId":1`), "Tink keyset"},
		"MAC keys":       {macKeyset, "other keys than AEAD keys"},
		"key is damaged": {damaged(`"value":\s*"`, `"value":"!`), "no Tink keyset"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := keyset.Parse([]byte(test.text))
			fails(t, "Parse", err, test.want)
			fails(t, "Parse", err, "demo key new")
			if err != nil {
				isSilent(t, err.Error(), append(materials(t, []byte(good)), "hunter2"))
			}
		})
	}
}

// macKeyset is a Tink keyset that cannot seal.
const macKeyset = `{"primaryKeyId":7,"key":[{"keyData":{` +
	`"typeUrl":"type.googleapis.com/google.crypto.tink.HmacKey",` +
	`"value":"EgQIAxAgGiBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcA==",` +
	`"keyMaterialType":"SYMMETRIC"},"status":"ENABLED","keyId":7,"outputPrefixType":"TINK"}]}`

// isSilent fails the test if the text has a secret in it.
func isSilent(t testing.TB, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("key material is written: %q", text)
		}
	}
}

// TestInvariant14SilentKeysets: no printed form of a keyset has a key in it.
func TestInvariant14SilentKeysets(t *testing.T) {
	k := newKeyset(t)
	_, err := k.Add()
	must(t, err)
	secrets := materials(t, textOf(t, k))
	if !slices.ContainsFunc(secrets, func(secret string) bool {
		return strings.Contains(string(textOf(t, k)), secret)
	}) {
		t.Fatal("the test does not know the keys")
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("keys", "keyset", k, "in", struct{ K *keyset.Keyset }{k})
	asJSON, err := json.Marshal(map[string]any{"keyset": k})
	must(t, err)
	for _, text := range []string{
		fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %q %x", k, k, k, k, k, k), fmt.Sprintf("%#v", *k),
		fmt.Sprintf("%+v", struct{ K *keyset.Keyset }{k}), log.String(), string(asJSON),
	} {
		isSilent(t, text, secrets)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(textOf(f, newKeyset(f)))
	f.Add([]byte(macKeyset))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := keyset.Parse(text)
		if err == nil && !opens(t, clone(t, k), k) {
			t.Error("what Parse takes does not open what it sealed")
		}
	})
}
