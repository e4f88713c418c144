package oauth2refresh_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/oauth2refresh"
)

// A client that signs an assertion for each request in place of a secret (private_key_jwt, RFC 7523
// section 2.2 and OpenID Connect Core 1.0 section 9). The hook is asked once for each request, so
// that no jti is sent twice.
func ExampleOptions_params() {
	key, err := rsa.GenerateKey(rand.Reader, 2048) // from your key store
	if err != nil {
		panic(err)
	}
	const clientID, tokenURL = "app", "https://login.example/token"
	r := oauth2refresh.New(oauth2.Config{
		ClientID: clientID, // and no ClientSecret
		Endpoint: oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInParams},
	}).With(oauth2refresh.Options{
		Params: func(context.Context, credentials.RefreshInput) (url.Values, error) {
			assertion, err := sign(key, map[string]any{
				"iss": clientID, "sub": clientID, "aud": tokenURL,
				"jti": rand.Text(), "exp": time.Now().Add(time.Minute).Unix(),
			})
			return url.Values{
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {assertion},
			}, err
		},
	})
	fmt.Println(r.Check())
	// Output: <nil>
}

// sign returns the claims as a JWT (RFC 7519), signed with RS256 (RFC 7518 section 3.3).
func sign(key *rsa.PrivateKey, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(payload)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	return signed + "." + encode(signature), err
}

// A client whose certificate stands in place of a secret (RFC 8705). The transport presents the
// certificate, and names the authorities of the provider's own if they are not the host's.
func ExampleOptions_mutualTLS() {
	var certificate tls.Certificate // from tls.LoadX509KeyPair
	authorities := x509.NewCertPool()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{
		Certificates: []tls.Certificate{certificate}, RootCAs: authorities, MinVersion: tls.VersionTLS12,
	}
	r := oauth2refresh.New(oauth2.Config{
		ClientID: "app", // tls_client_auth names the client in the body
		Endpoint: oauth2.Endpoint{TokenURL: "https://mtls.login.example/token", AuthStyle: oauth2.AuthStyleInParams},
	}).With(oauth2refresh.Options{HTTPClient: &http.Client{Transport: transport}})
	fmt.Println(r.Check())
	// Output: <nil>
}
