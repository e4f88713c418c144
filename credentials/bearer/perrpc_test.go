package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

// A call carries the source's token, or its context's.
func TestPerRPC(t *testing.T) {
	source, _ := start(t)
	other := credentials.Token{Value: credentials.NewSecret(mark + "-other")}
	for _, test := range []struct {
		name string
		rpc  bearer.PerRPC
		ctx  context.Context
		want string
	}{
		{"source", bearer.PerRPC{Source: source}, t.Context(), "access-0"},
		{"context", bearer.PerRPC{Source: source}, bearer.WithToken(t.Context(), other), "other"},
		{"context alone", bearer.PerRPC{}, bearer.WithToken(t.Context(), other), "other"},
		{"no token in the context", bearer.PerRPC{Source: source}, bearer.WithToken(t.Context(), credentials.Token{}), "access-0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.rpc.GetRequestMetadata(test.ctx, "https://api.example/service")
			must(t, err)
			want := map[string]string{"authorization": "Bearer " + mark + "-" + test.want}
			equal(t, "metadata", fmt.Sprint(got), fmt.Sprint(want))
			silent(t, "the context", fmt.Sprintf("%+v", test.ctx))
		})
	}
	equal(t, "RequireTransportSecurity", bearer.PerRPC{}.RequireTransportSecurity(), true)
}

// A call without token is not made.
func TestPerRPCFails(t *testing.T) {
	unknown := sourceOf(t, newManager(t, memstore.New(), credentials.Service{Refresher: new(provider)}), alice)
	if got, err := (bearer.PerRPC{Source: unknown}).GetRequestMetadata(t.Context()); got != nil || !errors.Is(err, credentials.ErrNotFound) {
		t.Errorf("got %v, error %v, want %v", got, err, credentials.ErrNotFound)
	}
	if got, err := (bearer.PerRPC{}).GetRequestMetadata(t.Context()); got != nil || err == nil {
		t.Errorf("without Source: got %v, error %v", got, err)
	}
}
