package mysql

import (
	"encoding/binary"
	"fmt"
)

// AEAD seals and opens the secrets of a row: authenticated encryption with associated data (RFC
// 5116). The interface has the shape of Tink's, so that the primitive of a Tink keyset, or an
// envelope under a key of a KMS, is an AEAD without an adapter.
//
// Decrypt opens whatever Encrypt returned under a key that is still in use, given the same
// associated data, and fails for anything else. An AEAD is safe for concurrent use, keeps none of
// its arguments, and answers at once: a claim opens tokens while it holds the row's lock. A KMS
// therefore belongs behind an envelope whose data keys are kept in memory.
type AEAD interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// aeadError is an error of the host's AEAD, without the text of that error, which may quote a
// secret. [errors.As] finds the host's error.
type aeadError struct{ cause error }

func (e *aeadError) Error() string {
	return fmt.Sprintf("the AEAD returned an error of type %T", e.cause)
}

func (e *aeadError) Unwrap() error { return e.cause }

// Format implements [fmt.Formatter]: no verb shows the cause.
func (e *aeadError) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, e.Error()) }

// guarded calls a method of the host's AEAD. The value of a panic may quote a secret.
func guarded(method func(text, data []byte) ([]byte, error), text, data []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the AEAD panicked with a %T", p)
		}
	}()
	if out, err = method(text, data); err != nil {
		return nil, &aeadError{err}
	}
	return out, nil
}

// keyPrefix is the length of the prefix by which a ciphertext of Tink's names its key: 0x01 and the
// key's id. https://developers.google.com/tink/wire-format
const keyPrefix = 5

// keyID returns the id of the key by which the ciphertext was made, if it names one.
func keyID(ciphertext []byte) (id uint32, named bool) {
	if len(ciphertext) < keyPrefix || ciphertext[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(ciphertext[1:]), true
}

// primaryKey returns the id of the key that seals now. An AEAD whose ciphertexts begin at random
// names none.
func primaryKey(aead AEAD) (id uint32, named bool, err error) {
	var ids [4]uint32 // a format that begins with a version may have few random bits after it
	for i := range ids {
		ciphertext, err := guarded(aead.Encrypt, nil, nil)
		if err != nil {
			return 0, false, fmt.Errorf("find the primary key: %w", err)
		}
		if ids[i], named = keyID(ciphertext); !named {
			return 0, false, nil
		}
	}
	return ids[0], ids == [4]uint32{ids[0], ids[0], ids[0], ids[0]}, nil
}
