package storm

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	store "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
	"github.com/latchkey-go/latchkey/internal/storm/audit"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// accounts is a storm's rows: accounts of a service of its own, which no other storm has.
type accounts struct {
	db      *sql.DB
	store   *store.Store
	service string
	names   []string
}

// newAccounts names as many accounts as the storm has, whose rows it stores as the workers do.
func newAccounts(db *sql.DB, cfg Config) (*accounts, error) {
	rows, err := worker.NewStore(db, cfg.Keyset)
	if err != nil {
		return nil, err
	}
	n := cfg.Accounts
	a := &accounts{db: db, store: rows, service: "storm-" + strings.ToLower(rand.Text()[:8])}
	digits := len(fmt.Sprint(n))
	for i := range n {
		a.names = append(a.names, fmt.Sprintf("account-%0*d", digits, i+1))
	}
	return a, nil
}

// authorize has a person authorize the account, as it were, and stores the new grant. The grant has
// an access token if the lifetime is not zero. After an error the outcome of the put is unknown;
// the next attempt brings another grant, since this one may be in use by then.
func (a *accounts) authorize(
	ctx context.Context, p *provider.Provider, account int, lifetime time.Duration,
) (audit.Put, error) {
	name := a.names[account]
	var grant credentials.Grant
	if lifetime > 0 {
		refresh, access := p.RegisterWithToken(name)
		grant = credentials.Grant{
			AccessToken: credentials.NewSecret(access), RefreshToken: credentials.NewSecret(refresh),
			Lifetime: lifetime,
		}
	} else {
		grant.RefreshToken = credentials.NewSecret(p.Register(name))
	}
	put := audit.Put{
		Account: account, Refresh: wire.Fingerprint(grant.RefreshToken),
		Serial: p.Serial(grant.RefreshToken.Reveal()), Start: history.Now(), End: history.Forever,
	}
	err := a.store.Put(ctx, credentials.Key{Service: a.service, Account: name}, grant)
	if err == nil {
		put.End = history.Now()
	}
	return put, err
}

// expire ends every access token and every back-off, as if time had passed.
func (a *accounts) expire(ctx context.Context) error {
	const update = "UPDATE `" + store.DefaultTable + "`" + `
		SET expiration = UTC_TIMESTAMP(6), due_at = UTC_TIMESTAMP(6), retry_at = UTC_TIMESTAMP(6),
		    version = version + 1, lease_version = lease_version + 1
		WHERE service_name = ?`
	if _, err := a.db.ExecContext(ctx, update, a.service); err != nil {
		return fmt.Errorf("expire the tokens: %w", err)
	}
	return nil
}

// versions returns the versions of the rows as they are where they are written: a router that splits
// reads from writes sends a transaction that locks to the server that takes writes.
func (a *accounts) versions(ctx context.Context) (wire.Versions, error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("read the versions: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	versions, err := worker.Versions(ctx, tx, a.service, "FOR UPDATE")
	if err != nil {
		return nil, fmt.Errorf("read the versions: %w", err)
	}
	return versions, nil
}

// read returns the rows, in the order of names.
func (a *accounts) read(ctx context.Context, p *provider.Provider) ([]audit.Row, error) {
	keys := make([]credentials.Key, len(a.names))
	for i, name := range a.names {
		keys[i] = credentials.Key{Service: a.service, Account: name}
	}
	all, err := a.store.GetAll(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	rows := make([]audit.Row, len(a.names))
	for i, found := range all {
		if errors.Is(found.Err, credentials.ErrNotFound) {
			continue
		}
		if found.Err != nil {
			return nil, fmt.Errorf("read the rows: %w", found.Err)
		}
		c := found.Credential
		refresh := c.RefreshToken.Reveal()
		rows[i] = audit.Row{
			Token: wire.Fingerprint(c.AccessToken), Refresh: wire.Fingerprint(c.RefreshToken),
			Serial: p.Serial(refresh), Newest: p.Current(c.Key.Account, refresh),
		}
	}
	return rows, nil
}

// remove deletes the rows.
func (a *accounts) remove(ctx context.Context) error {
	const query = "DELETE FROM `" + store.DefaultTable + "` WHERE service_name = ?"
	_, err := a.db.ExecContext(ctx, query, a.service)
	return err
}
