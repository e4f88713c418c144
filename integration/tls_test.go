package integration_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/testkit/docker"
)

// authority issues certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// newAuthority returns an authority whose own certificate bears that name.
func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.key, a.certificate = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue returns a new key and a certificate for it. The first certificate is the authority's own.
func (a *authority) issue(t *testing.T, c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(t, err)
	issued, err := x509.ParseCertificate(der)
	must(t, err)
	return key, issued
}

// files writes ca.pem, cert.pem and key.pem of a server with that host name into a new folder.
func (a *authority) files(t *testing.T, host string) string {
	t.Helper()
	key, certificate := a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	folder := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: a.certificate.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate.Raw},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		// The server in a container is another user.
		must(t, os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o644))
	}
	return folder
}

// pool is the set that holds the authority alone.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// settings are the server's, with the certificate's files in that folder.
func settings(folder string) (names, values []string) {
	return []string{"ssl_ca", "ssl_cert", "ssl_key"},
		[]string{folder + "/ca.pem", folder + "/cert.pem", folder + "/key.pem"}
}

// startWithCertificate starts a private server that shows the certificate in the folder.
func startWithCertificate(t *testing.T, kind, folder string) *server {
	t.Helper()
	if kind != "docker" {
		names, values := settings(folder)
		var args []string
		for i, name := range names {
			args = append(args, "--"+name+"="+values[i])
		}
		return onThisMachine(t, &localmysql.Options{Args: args}).server
	}
	p := inContainer(t)
	must(t, errOf(docker.Command("cp", folder, p.container+":/tls")))
	names, values := settings("/tls")
	for i, name := range names {
		execute(t, p.admin, "SET GLOBAL "+name+" = '"+values[i]+"'")
	}
	execute(t, p.admin, "ALTER INSTANCE RELOAD TLS")
	return p.server
}

// TestVerifiedTLS: a pool whose tls setting names the authority and the host reaches a server that
// insists on TLS. A server that cannot show such a certificate is not spoken to: a call is refused
// at once, and says so.
func TestVerifiedTLS(t *testing.T) {
	t.Parallel()
	const host = "db.internal"
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	folder := ours.files(t, host)
	for _, kind := range requirePrivate(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := startWithCertificate(t, kind, folder)
			database := s.migrated(t)
			execute(t, s.admin, "SET GLOBAL require_secure_transport = ON")
			for _, test := range []struct {
				name  string
				tls   *tls.Config
				wants string // of the error; empty: none
			}{
				{"verified", &tls.Config{RootCAs: ours.pool(), ServerName: host}, ""},
				{"another authority", &tls.Config{RootCAs: others.pool(), ServerName: host}, "authority"},
				{"another host", &tls.Config{RootCAs: ours.pool(), ServerName: "db2.internal"}, host},
				{"without TLS", nil, "TLS"},
			} {
				config := s.configFor(t, database, interpolated)
				config.TLS, config.TLSConfig = test.tls, "" // as by RegisterTLSConfig and the DSN's tls
				db := openFor(t, config)
				store := newStore(t, db)
				if test.wants != "" {
					refusedNow(t, "Get, "+test.name, getting(store), test.wants)
					refusedNow(t, "Check, "+test.name, checking(store), test.wants)
					continue
				}
				must(t, store.Check(bounded(t)))
				put(t, store, alice, refreshToken("seed"))
				equal(t, "the token through TLS", get(t, store, alice).RefreshToken.Reveal(), "seed")
				if cipher := rowsOf(t, db, "SHOW STATUS LIKE 'Ssl_cipher'")[0].text("Value"); cipher == "" {
					t.Error("the session is not encrypted")
				}
			}
		})
	}
}
