package testkit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Keyring is an AEAD of AES-256-GCM keys, which are made from their ids: the same id is the same
// key in every process. A ciphertext begins as Tink's do, with 0x01 and the id of its key.
type Keyring struct {
	primary uint32
	keys    map[uint32]cipher.AEAD
}

// NewKeyring returns a keyring that seals under the primary key, and opens under the others, too.
func NewKeyring(primary uint32, others ...uint32) *Keyring {
	k := &Keyring{primary: primary, keys: make(map[uint32]cipher.AEAD)}
	for _, id := range append(others, primary) {
		secret := sha256.Sum256(fmt.Appendf(nil, "testkit key %d", id))
		block, err := aes.NewCipher(secret[:])
		if err != nil {
			panic(err) // 32 bytes are a key
		}
		if k.keys[id], err = cipher.NewGCM(block); err != nil {
			panic(err) // the block has 16 bytes
		}
	}
	return k
}

// prefix is what a ciphertext of that key begins with.
func prefix(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{1}, id) }

// Encrypt seals under the primary key.
func (k *Keyring) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	key := k.keys[k.primary]
	sealed := prefix(k.primary)
	nonce := make([]byte, key.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return key.Seal(append(sealed, nonce...), nonce, plaintext, associatedData), nil
}

// Decrypt opens under the key that the ciphertext names.
func (k *Keyring) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	const prefixSize = 5
	if len(ciphertext) < prefixSize || ciphertext[0] != 1 {
		return nil, errors.New("testkit: the ciphertext names no key")
	}
	key := k.keys[binary.BigEndian.Uint32(ciphertext[1:])]
	sealed := ciphertext[prefixSize:]
	if key == nil || len(sealed) < key.NonceSize() {
		return nil, errors.New("testkit: no key opens the ciphertext")
	}
	return key.Open(nil, sealed[:key.NonceSize()], sealed[key.NonceSize():], associatedData)
}
