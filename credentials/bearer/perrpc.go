package bearer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
)

// PerRPC has gRPC calls carry the token of a credential, in the metadata entry "authorization". It
// implements PerRPCCredentials of google.golang.org/grpc/credentials, for a connection or for one
// call:
//
//	grpc.NewClient(target, grpc.WithPerRPCCredentials(bearer.PerRPC{Source: source}), …)
//	client.Get(ctx, request, grpc.PerRPCCredentials(bearer.PerRPC{Source: source}))
//
// gRPC does not say which token a call carried, and makes a code of an error of GetRequestMetadata:
// Unauthenticated for a connection's, Internal for a call's. An interceptor that gets the token
// itself has the error as it is, knows the token, and can report one that the API turned down:
//
//	func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
//		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
//		token, err := source.Token(ctx)
//		if err != nil {
//			return err
//		}
//		err = invoke(bearer.WithToken(ctx, token), method, request, reply, conn, opts...)
//		if status.Code(err) != codes.Unauthenticated {
//			return err
//		}
//		next, failed := source.Invalidate(ctx, token)
//		if failed != nil {
//			return err
//		}
//		return invoke(bearer.WithToken(ctx, next), method, request, reply, conn, opts...)
//	}
//
// A stream is not begun anew so easily; report its token with source.Report(ctx, token).
type PerRPC struct {
	// Source is the credential whose token calls carry. It may be nil if every call's context has a
	// token (see [WithToken]).
	Source *credentials.Source
}

type tokenKey struct{}

// WithToken returns a context under which a [PerRPC] sends that token in place of its Source's, so
// that the caller knows the token if the API turns it down. The zero Token changes nothing.
func WithToken(ctx context.Context, token credentials.Token) context.Context {
	if token.Value.IsZero() {
		return ctx
	}
	return context.WithValue(ctx, tokenKey{}, token)
}

// GetRequestMetadata returns the entry "authorization" with the token. Its errors are those of
// [credentials.Manager.Token], wrapped, and have no secret.
func (p PerRPC) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := p.token(ctx)
	if err != nil {
		return nil, fmt.Errorf("bearer: no token for the call: %w", err)
	}
	m := make(metadata, 1)
	token.SetAuthHeader(m)
	return m, nil
}

func (p PerRPC) token(ctx context.Context) (credentials.Token, error) {
	if token, ok := ctx.Value(tokenKey{}).(credentials.Token); ok {
		return token, nil
	}
	if p.Source == nil {
		return credentials.Token{}, errors.New("PerRPC has no Source, and the context no token")
	}
	return p.Source.Token(ctx)
}

// RequireTransportSecurity returns true: a token is sent over TLS alone (RFC 6750 section 5.3).
func (PerRPC) RequireTransportSecurity() bool { return true }

// metadata is gRPC's, whose keys have small letters.
type metadata map[string]string

// Set sets an entry.
func (m metadata) Set(name, value string) { m[strings.ToLower(name)] = value }
