package storm

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
	store "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/provider"
)

// accounts is a storm's rows: accounts of a service of its own, so that it meets nobody else's.
type accounts struct {
	db      *sql.DB
	store   *store.Store
	service string
	names   []string
}

func newAccounts(db *sql.DB, n int) (*accounts, error) {
	rows, err := store.NewStore(db, nil)
	if err != nil {
		return nil, err
	}
	a := &accounts{db: db, store: rows, service: "storm-" + strings.ToLower(rand.Text()[:8])}
	digits := len(fmt.Sprint(n))
	for i := range n {
		a.names = append(a.names, fmt.Sprintf("account-%0*d", digits, i+1))
	}
	return a, nil
}

// seed authorizes every account at the provider and stores its refresh token, with no access token yet.
func (a *accounts) seed(ctx context.Context, p *provider.Provider) ([]putting, error) {
	var puts []putting
	for account := range a.names {
		put, err := a.authorize(ctx, p, account)
		if err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
		puts = append(puts, put)
	}
	return puts, nil
}

// authorize has a person authorize the account, as it were, and stores the new grant. After an error nobody knows
// whether it was stored; the next attempt brings another grant, since this one may be in use by then.
func (a *accounts) authorize(ctx context.Context, p *provider.Provider, account int) (putting, error) {
	token := credentials.NewSecret(p.Register(a.names[account]))
	put := putting{account: account, refresh: fingerprint(token), serial: p.Serial(token.Reveal()), start: history.Now(), end: history.Forever}
	err := a.store.Put(ctx, credentials.Key{Service: a.service, Account: a.names[account]}, credentials.Grant{RefreshToken: token})
	if err == nil {
		put.end = history.Now()
	}
	return put, err
}

// expire ends every access token now, and every back-off, as if time had passed.
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

// tokens returns the fingerprint of the access token in each account's row, in the order of names.
func (a *accounts) tokens(ctx context.Context) ([]string, error) {
	byName := make(map[string]string, len(a.names))
	for c, err := range a.store.List(ctx, a.service) {
		if err != nil {
			return nil, fmt.Errorf("read the tokens: %w", err)
		}
		byName[c.Key.Account] = fingerprint(c.Token)
	}
	tokens := make([]string, len(a.names))
	for i, name := range a.names {
		tokens[i] = byName[name]
	}
	return tokens, nil
}

// remove deletes the rows.
func (a *accounts) remove(ctx context.Context) error {
	_, err := a.db.ExecContext(ctx, "DELETE FROM `"+store.DefaultTable+"` WHERE service_name = ?", a.service)
	return err
}
