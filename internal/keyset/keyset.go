// Package keyset keeps the keys under which the command seals tokens: Tink keysets of AEAD keys, as
// JSON in clear text, which stand in a file, a mount or an environment variable.
//
// A keyset has one primary key, which seals, and any number of other keys, which open what was
// sealed before. No error, and no printed form of a [Keyset], has key material in it: the texts of
// Tink's errors are left out, since a parser's error may quote the text that it could not read.
package keyset

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyset is a set of AEAD keys, for one goroutine at a time; the AEAD that it returns is safe for
// concurrent use.
type Keyset struct {
	handle *keyset.Handle
}

// Key is what may be known of a key by everybody.
type Key struct {
	ID      uint32
	Primary bool // new values are sealed under this key
	Retired bool // the key opens nothing
}

// New makes a keyset of one key, AES-256-GCM with Tink's output prefix: each sealed value begins
// with the id of its key.
func New() (*Keyset, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, errors.New("make a key: the system's random numbers cannot be read")
	}
	return &Keyset{handle}, nil
}

// Parse reads a keyset's JSON. The errors complete a sentence that begins with the place where the
// text stands: "… is empty".
func Parse(text []byte) (*Keyset, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, errors.New("is empty; `demo key new` makes a keyset")
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, errors.New("has no Tink keyset as JSON in clear text; " +
			"`demo key new` makes one, and tinkey writes one with --out-format json")
	}
	k := &Keyset{handle}
	if _, err := k.AEAD(); err != nil {
		return nil, err
	}
	return k, nil
}

// AEAD seals under the primary key and opens under every key that is not retired.
func (k *Keyset) AEAD() (tink.AEAD, error) {
	sealer, err := aead.New(k.handle)
	if err != nil {
		return nil, errors.New("has a Tink keyset of other keys than AEAD keys, " +
			"or one without a primary key; `demo key new` makes one that fits")
	}
	return sealer, nil
}

// Text is the keyset as JSON, keys included: for the file or the process that is to have them.
func (k *Keyset) Text() ([]byte, error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, errors.New("the keyset cannot be written as JSON")
	}
	return append(text.Bytes(), '\n'), nil
}

// Keys lists the keys, the oldest first.
func (k *Keyset) Keys() []Key {
	keys := make([]Key, 0, k.handle.Len())
	for i := range k.handle.Len() {
		if entry, err := k.handle.Entry(i); err == nil {
			keys = append(keys, Key{
				ID: entry.KeyID(), Primary: entry.IsPrimary(),
				Retired: entry.KeyStatus() != keyset.Enabled,
			})
		}
	}
	return keys
}

// String tells the ids of the keys.
func (k *Keyset) String() string { return fmt.Sprintf("keyset%+v", k.Keys()) }

// GoString is String: the verb %#v prints no key either.
func (k *Keyset) GoString() string { return k.String() }

// Add adds a key as [New] makes it, which opens and does not seal, and returns its id. Values may
// be sealed under a key from when all processes can open them; see Promote.
func (k *Keyset) Add() (id uint32, err error) {
	err = k.change(func(m *keyset.Manager) (err error) {
		id, err = m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
	if err != nil {
		return 0, errors.New("add a key: the system's random numbers cannot be read")
	}
	return id, nil
}

// Newest is the key that was added last.
func (k *Keyset) Newest() Key {
	keys := k.Keys()
	return keys[len(keys)-1]
}

// Promote makes a key the primary. A retired key is refused.
func (k *Keyset) Promote(id uint32) error {
	switch key, err := k.find(id); {
	case err != nil:
		return err
	case key.Retired:
		return fmt.Errorf("the key %d is retired; `demo key retire --undo %d` has it open again", id, id)
	}
	return k.change(func(m *keyset.Manager) error { return m.SetPrimary(id) })
}

// Retire has a key open nothing any more, until Restore. The primary key is refused.
func (k *Keyset) Retire(id uint32) error {
	if err := k.notPrimary(id); err != nil {
		return err
	}
	return k.change(func(m *keyset.Manager) error { return m.Disable(id) })
}

// Restore has a retired key open again.
func (k *Keyset) Restore(id uint32) error {
	if _, err := k.find(id); err != nil {
		return err
	}
	return k.change(func(m *keyset.Manager) error { return m.Enable(id) })
}

// Delete removes a key for good. The primary key is refused.
func (k *Keyset) Delete(id uint32) error {
	if err := k.notPrimary(id); err != nil {
		return err
	}
	return k.change(func(m *keyset.Manager) error { return m.Delete(id) })
}

func (k *Keyset) notPrimary(id uint32) error {
	key, err := k.find(id)
	if err == nil && key.Primary {
		err = fmt.Errorf("the key %d is the primary, which seals; promote another key first: "+
			"demo key rotate", id)
	}
	return err
}

func (k *Keyset) find(id uint32) (Key, error) {
	keys := k.Keys()
	i := slices.IndexFunc(keys, func(key Key) bool { return key.ID == id })
	if i < 0 {
		return Key{}, fmt.Errorf("the keyset has no key %d; `demo key list` shows its keys", id)
	}
	return keys[i], nil
}

// change replaces the handle by one on which do was called; after an error the keyset is as before.
func (k *Keyset) change(do func(m *keyset.Manager) error) error {
	m := keyset.NewManagerFromHandle(k.handle)
	if err := do(m); err != nil {
		return errors.New("the keyset cannot be changed so, since Tink refuses the change")
	}
	handle, err := m.Handle()
	if err != nil {
		return errors.New("the keyset cannot be changed so, since Tink refuses the change")
	}
	k.handle = handle
	return nil
}
