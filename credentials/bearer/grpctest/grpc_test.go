// Package grpctest_test holds bearer.PerRPC to gRPC: a server and clients over TLS.
package grpctest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/credentials/bearer"
	"github.com/latchkey-go/latchkey/credentials/memstore"
)

var _ grpccredentials.PerRPCCredentials = bearer.PerRPC{}

// alice is the credential of all tests.
var alice = credentials.Key{Service: "github", Account: "alice"}

// api is a gRPC server that takes the newest token alone, and its provider.
type api struct {
	tls  *tls.Config // of clients
	addr string

	mu    sync.Mutex // guards what follows
	token int        // the number of the newest one that was issued
	takes int        // the number of the least one that works
	got   []string   // the entry "authorization" of the calls
}

// serve starts an API that takes the tokens from that number on.
func serve(t *testing.T, takes int) *api {
	t.Helper()
	borrowed := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	t.Cleanup(borrowed.Close)
	roots := x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	a := &api{takes: takes, tls: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
	server := grpc.NewServer(
		grpc.Creds(grpccredentials.NewTLS(&tls.Config{Certificates: borrowed.TLS.Certificates})),
		grpc.UnaryInterceptor(func(
			ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
		) (any, error) {
			if err := a.check(ctx); err != nil {
				return nil, err
			}
			return handle(ctx, request)
		}),
		grpc.StreamInterceptor(func(
			service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler,
		) error {
			if err := a.check(stream.Context()); err != nil {
				return err
			}
			return handle(service, stream)
		}),
	)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	a.addr = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		must(t, <-served)
	})
	return a
}

// check turns down a call without a token that works.
func (a *api) check(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	got := fmt.Sprint(md.Get("authorization"))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, got)
	for n := a.takes; n <= a.token; n++ {
		if got == fmt.Sprintf("[Bearer access-%d]", n) {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "the token was turned down")
}

// Refresh implements [credentials.Refresher].
func (a *api) Refresh(context.Context, credentials.RefreshInput) (credentials.Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token++
	text := fmt.Sprint("access-", a.token)
	return credentials.Grant{AccessToken: credentials.NewSecret(text), Lifetime: time.Hour}, nil
}

// is fails the test unless the calls carried these tokens.
func (a *api) is(t *testing.T, want ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := fmt.Sprint(a.got); got != fmt.Sprint(want) {
		t.Errorf("the API got %v, want %v", got, want)
	}
}

// source returns alice's source, whose token was put.
func (a *api) source(t *testing.T) *credentials.Source {
	t.Helper()
	store := memstore.New()
	must(t, store.Put(t.Context(), alice, credentials.Grant{
		AccessToken: credentials.NewSecret("access-0"), Lifetime: time.Hour,
	}))
	return a.sourceOn(t, store)
}

// sourceOn returns alice's source on that store.
func (a *api) sourceOn(t *testing.T, store credentials.Store) *credentials.Source {
	t.Helper()
	m, err := credentials.NewManager(store, credentials.Services{alice.Service: {Refresher: a}},
		&credentials.Options{Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close(context.Background())) })
	source, err := m.Source(alice)
	must(t, err)
	return source
}

// dial returns a client over TLS.
func (a *api) dial(t *testing.T, opts ...grpc.DialOption) grpc_health_v1.HealthClient {
	t.Helper()
	tls := grpc.WithTransportCredentials(grpccredentials.NewTLS(a.tls))
	conn, err := grpc.NewClient("passthrough:///"+a.addr, append(opts, tls)...)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

// reporting is the interceptor of the documentation of bearer.PerRPC.
func reporting(source *credentials.Source) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		token, err := source.Token(ctx)
		if err != nil {
			return err
		}
		err = invoke(bearer.WithToken(ctx, token), method, request, reply, conn, opts...)
		if status.Code(err) != codes.Unauthenticated {
			return err
		}
		next, failed := source.Invalidate(ctx, token)
		if failed != nil {
			return err
		}
		return invoke(bearer.WithToken(ctx, next), method, request, reply, conn, opts...)
	}
}

// A call carries the token once, whether the credentials are the connection's or the call's.
func TestCallCarriesTheToken(t *testing.T) {
	a := serve(t, 0)
	source := a.source(t)
	_, err := a.dial(t, grpc.WithPerRPCCredentials(bearer.PerRPC{Source: source})).Check(t.Context(), nil)
	must(t, err)
	_, err = a.dial(t).Check(t.Context(), nil, grpc.PerRPCCredentials(bearer.PerRPC{Source: source}))
	must(t, err)
	a.is(t, "[Bearer access-0]", "[Bearer access-0]")
}

// An interceptor reports the token that the API turned down, and makes the call once more.
func TestTurnedDown(t *testing.T) {
	a := serve(t, 1)
	source := a.source(t)
	client := a.dial(t, grpc.WithPerRPCCredentials(bearer.PerRPC{Source: source}),
		grpc.WithUnaryInterceptor(reporting(source)))
	for range 2 {
		_, err := client.Check(t.Context(), nil)
		must(t, err)
	}
	a.is(t, "[Bearer access-0]", "[Bearer access-1]", "[Bearer access-1]")
}

// An API that turns every token down gets its answer through.
func TestTurnedDownTwice(t *testing.T) {
	a := serve(t, 1000)
	source := a.source(t)
	client := a.dial(t, grpc.WithPerRPCCredentials(bearer.PerRPC{Source: source}),
		grpc.WithUnaryInterceptor(reporting(source)))
	for range 2 {
		if _, err := client.Check(t.Context(), nil); status.Code(err) != codes.Unauthenticated {
			t.Errorf("got error %v, want code %v", err, codes.Unauthenticated)
		}
	}
	a.is(t, "[Bearer access-0]", "[Bearer access-1]", "[Bearer access-1]") // which is too young by then
}

// A stream's token is reported, and the next stream has the next token.
func TestStreamTurnedDown(t *testing.T) {
	a := serve(t, 1)
	source := a.source(t)
	client := a.dial(t, grpc.WithPerRPCCredentials(bearer.PerRPC{Source: source}))
	token, err := source.Token(t.Context())
	must(t, err)
	receive := func(ctx context.Context) error {
		stream, err := client.Watch(ctx, nil)
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	if err := receive(bearer.WithToken(t.Context(), token)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got error %v, want code %v", err, codes.Unauthenticated)
	}
	source.Report(t.Context(), token)
	must(t, receive(t.Context()))
	a.is(t, "[Bearer access-0]", "[Bearer access-1]")
}

// gRPC makes codes of the errors of a credential; an interceptor has the error itself.
func TestNoToken(t *testing.T) {
	a := serve(t, 0)
	source := a.sourceOn(t, memstore.New()) // which has no credential
	rpc := bearer.PerRPC{Source: source}
	_, err := a.dial(t, grpc.WithPerRPCCredentials(rpc)).Check(t.Context(), nil)
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("of a connection: got error %v, want code %v", err, codes.Unauthenticated)
	}
	_, err = a.dial(t).Check(t.Context(), nil, grpc.PerRPCCredentials(rpc))
	if status.Code(err) != codes.Internal {
		t.Errorf("of a call: got error %v, want code %v", err, codes.Internal)
	}
	_, err = a.dial(t, grpc.WithUnaryInterceptor(reporting(source))).Check(t.Context(), nil)
	if !errors.Is(err, credentials.ErrNotFound) {
		t.Errorf("of an interceptor: got error %v, want %v", err, credentials.ErrNotFound)
	}
	a.is(t)
}

// No token goes over a connection without TLS.
func TestTLSIsDemanded(t *testing.T) {
	a := serve(t, 0)
	rpc := bearer.PerRPC{Source: a.source(t)}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	if _, err := grpc.NewClient("passthrough:///"+a.addr, plain, grpc.WithPerRPCCredentials(rpc)); err == nil {
		t.Error("a connection without TLS was made")
	}
	conn, err := grpc.NewClient("passthrough:///"+a.addr, plain)
	must(t, err)
	defer func() { _ = conn.Close() }()
	client := grpc_health_v1.NewHealthClient(conn)
	if _, err := client.Check(t.Context(), nil, grpc.PerRPCCredentials(rpc)); err == nil {
		t.Error("a call without TLS succeeded")
	}
	a.is(t)
}

// The documentation's interceptor is the one of these tests.
func TestInterceptorIsTheDocumentations(t *testing.T) {
	documented, err := os.ReadFile("../perrpc.go")
	must(t, err)
	tested, err := os.ReadFile("grpc_test.go")
	must(t, err)
	_, interceptor, _ := strings.Cut(string(documented), "//\tfunc(ctx")
	interceptor, _, _ = strings.Cut("//\tfunc(ctx"+interceptor, "//\t}\n")
	if lines := strings.Count(interceptor, "\n"); lines < 10 {
		t.Fatalf("the documentation's interceptor has %d lines", lines)
	}
	for line := range strings.Lines(interceptor) {
		if line = strings.TrimSpace(strings.TrimPrefix(line, "//")); !strings.Contains(string(tested), line+"\n") {
			t.Errorf("the tests do not have the documentation's line %s", line)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
