package mysql

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/latchkey-go/latchkey/internal/testkit"
)

// nameless is an AEAD whose ciphertexts do not name their key: they begin with a nonce.
type nameless struct{ *testkit.Keyring }

func (a nameless) Encrypt(plaintext, data []byte) ([]byte, error) {
	sealed, err := a.Keyring.Encrypt(plaintext, data)
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce)
	nonce[0] = 1 // as one in 256 is
	return slices.Concat(nonce, sealed), err
}

// versioned is an AEAD whose ciphertexts begin with the version of a format, and then at random;
// the random bytes are the same twice.
type versioned struct {
	*testkit.Keyring
	calls *uint32
}

func (a versioned) Encrypt(plaintext, data []byte) ([]byte, error) {
	sealed, err := a.Keyring.Encrypt(plaintext, data)
	*a.calls++
	return slices.Concat([]byte{1, 0x80, 3, 0x78, byte(*a.calls / 3)}, sealed), err
}

func TestPrimaryKey(t *testing.T) {
	for name, test := range map[string]struct {
		aead  AEAD
		id    uint32
		named bool
	}{
		"Tink's prefix": {testkit.NewKeyring(7, 6), 7, true},
		"a nonce":       {nameless{testkit.NewKeyring(7)}, 0, false},
		"a version":     {versioned{testkit.NewKeyring(7), new(uint32)}, 0, false},
	} {
		id, named, err := primaryKey(test.aead)
		if named != test.named || named && id != test.id || err != nil {
			t.Errorf("%s: got key %d, %t, error %v, want %d, %t", name, id, named, err, test.id, test.named)
		}
	}
}

// TestKeyCount: a row counts for each key that one of its values needs, and once if it is plain or
// names no key.
func TestKeyCount(t *testing.T) {
	sealed := func(id byte) []byte { return []byte(mark + "0123456789abcdef" + "\x01\x00\x00\x00" + string(id)) }
	count := KeyCount{Keys: make(map[uint32]int), Primary: 2}
	for _, v := range []secrets{
		{extra: sealed(1)},
		{access: sealed(1), refresh: sealed(2), extra: sealed(2)},
		{access: sealed(2), extra: sealed(2)},
		{access: []byte("plain"), extra: []byte("{}")},
		{extra: []byte(mark + "0123456789abcdef" + "nonce")},
		{extra: []byte(mark)},
	} {
		count.add(v, true)
	}
	if count.Rows != 6 || count.Plain != 1 || count.Unnamed != 2 || count.Keys[1] != 2 || count.Keys[2] != 2 {
		t.Errorf("got %+v", count)
	}
	if got := count.Others(); got != 5 {
		t.Errorf("others: got %d, want 5", got)
	}
}
