package testkit

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// KeyMaterial returns the AES-256 keys of a Tink keyset, which is JSON in clear text, in the forms
// in which a program might write them by mistake: bytes, their list in decimal, hex and base64.
func KeyMaterial(keyset []byte) (forms []string, err error) {
	var parsed struct {
		Key []struct {
			KeyData struct{ Value []byte } // a protocol buffer that ends with the key
		}
	}
	if err := json.Unmarshal(keyset, &parsed); err != nil {
		return nil, err
	}
	for _, key := range parsed.Key {
		data := key.KeyData.Value
		if len(data) < 32 {
			return nil, errors.New("a key of the keyset is shorter than 32 bytes")
		}
		material := data[len(data)-32:]
		forms = append(forms, string(material), fmt.Sprint(material), hex.EncodeToString(material))
		// In base64, a key looks in one of three ways, by the number of bytes before it.
		for _, aligned := range [][]byte{material[:30], material[1:31], material[2:32]} {
			forms = append(forms, base64.RawStdEncoding.EncodeToString(aligned))
		}
	}
	if len(forms) == 0 {
		return nil, errors.New("the keyset has no keys")
	}
	return forms, nil
}
