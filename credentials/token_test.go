package credentials_test

import (
	"net/http"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
)

// The header of RFC 6750 section 2.1, whatever stood there before; a Token without a value leaves
// the header alone.
func TestSetAuthHeader(t *testing.T) {
	for _, test := range []struct {
		name  string
		token credentials.Token
		want  string
	}{
		{"token", credentials.Token{Value: credentials.NewSecret("gho_123")}, "Bearer gho_123"},
		{"zero", credentials.Token{}, "Basic before"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Basic before")
		test.token.SetAuthHeader(request.Header)
		if got := request.Header.Values("Authorization"); len(got) != 1 || got[0] != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
