package provider

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Server is a [Provider] on a TCP port of its own.
type Server struct {
	// Provider is what answers.
	Provider *Provider

	// URL is the address of the server: "http://127.0.0.1:40123".
	URL string

	server *http.Server
	served chan struct{}
}

// Start serves p on addr ("host:port"); "" is a free port of 127.0.0.1. The administration needs no
// password, so leave it on loopback. [Server.Close] ends it.
func Start(addr string, p *Provider) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the token endpoint: %w; choose another address", err)
	}
	s := &Server{
		Provider: p,
		URL:      "http://" + listener.Addr().String(),
		server:   &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second},
		served:   make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(listener)
	}()
	return s, nil
}

// RevocationURL is the address of the revocation endpoint.
func (s *Server) RevocationURL() string { return s.URL + "/revoke" }

// TokenURL is the address of the token endpoint.
func (s *Server) TokenURL() string { return s.URL + "/token" }

// Close ends the server, its connections and what hangs in the provider. It may be called again.
func (s *Server) Close() error {
	s.Provider.Close()
	err := s.server.Close()
	<-s.served
	return err
}

// routes sets up the endpoints. Beside /token:
//
//	GET  /authorize                        redirects with an authorization code for the account
//	                                       that login_hint names, with PKCE if asked for
//	POST /revoke                           ends the family of a refresh token
//	GET  /userinfo                         {"sub": account} of the access token, or 401
//	GET  /healthz                          200 when it serves
//	POST /admin/accounts/{name}            authorizes the account: {"refresh_token": …}
//	POST /admin/accounts/{name}/faults     enqueues the faults of a JSON array for it
//	POST /admin/accounts/{name}/current    {"refresh_token": …}: {"current": true}
//	                                       if it is the newest and alive
//	POST /admin/faults                     enqueues the faults of a JSON array for anyone
//	PUT  /admin/rates                      replaces the random faults by those of a JSON array
//	GET  /admin/presentations              a JSON array of Presentation
//	GET  /admin/stats                      Stats
//
// A name with a slash in it is sent percent-encoded.
func (p *Provider) routes() {
	p.mux.HandleFunc("POST /token", p.token)
	p.mux.HandleFunc("POST /revoke", p.revoke)
	p.mux.HandleFunc("GET /authorize", p.authorizeCode)
	p.mux.HandleFunc("GET /userinfo", p.userinfo)
	p.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	p.mux.HandleFunc("POST /admin/accounts/{name}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"refresh_token": p.Register(r.PathValue("name"))})
	})
	p.mux.HandleFunc("POST /admin/accounts/{name}/current", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			RefreshToken string `json:"refresh_token"`
		}
		if readJSON(w, r, &body) {
			writeJSON(w, http.StatusOK, map[string]any{"current": p.Current(r.PathValue("name"), body.RefreshToken)})
		}
	})
	enqueue := func(w http.ResponseWriter, r *http.Request) {
		var faults []Fault
		if readJSON(w, r, &faults) {
			p.Enqueue(r.PathValue("name"), faults...)
			w.WriteHeader(http.StatusNoContent)
		}
	}
	p.mux.HandleFunc("POST /admin/faults", enqueue)
	p.mux.HandleFunc("POST /admin/accounts/{name}/faults", enqueue)
	p.mux.HandleFunc("PUT /admin/rates", func(w http.ResponseWriter, r *http.Request) {
		var rates []Rate
		if readJSON(w, r, &rates) {
			p.SetRates(rates...)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	p.mux.HandleFunc("GET /admin/presentations", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, p.Presentations())
	})
	p.mux.HandleFunc("GET /admin/stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, p.Stats())
	})
}

// readJSON reads the body into v, or answers what is wrong with it.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		http.Error(w, "the body is not the JSON that this endpoint takes: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
