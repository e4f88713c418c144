package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/latchkey-go/latchkey/credentials"
)

// ImportOptions change an import. The zero value keeps every credential that is there.
type ImportOptions struct {
	// Replace puts the imported grant in the place of one that is there, unless that moves on
	// meanwhile: then the error wraps [credentials.ErrSuperseded].
	Replace bool

	// DryRun decides, and writes nothing.
	DryRun bool
}

// Imported is the outcome of an import.
type Imported string

// The outcomes.
const (
	ImportedNew      Imported = "imported"
	ImportedReplaced Imported = "replaced"
	ImportedKept     Imported = "kept" // what was there
)

// Import puts an exported credential, sealed with the store's own keys. A grant that was dead, or
// of which an exchange was interrupted, stays so, and a credential that was disabled stays
// disabled; so does the one that it replaces. An access token that has expired is left out.
//
// A sealed credential has to open: the error wraps [credentials.ErrSealed] where no key does, and
// [credentials.ErrOtherDeployment] where the store is of another deployment. Errors are else those
// of Put; after each of them, another Import of the same credential is safe, without Replace.
func (s *Store) Import(ctx context.Context, e Exported, opts ImportOptions) (outcome Imported, err error) {
	if e.Key, err = e.Key.Normalize(); err != nil {
		return "", err
	}
	i := &importing{store: s, Exported: e, ImportOptions: opts, action: "import " + e.Key.String()}
	if err := i.prepare(ctx); err != nil {
		return "", fmt.Errorf("%s: %w", i.action, err)
	}
	before, err := s.before(ctx, i.action, e.Key)
	if err == nil {
		err = s.owns(before)
	}
	switch {
	case err != nil:
		return "", err
	case before.ID != 0 && !opts.Replace:
		return ImportedKept, nil
	case before.ID != 0:
		outcome = ImportedReplaced
	default:
		outcome = ImportedNew
	}
	if opts.DryRun {
		return outcome, nil
	}
	return outcome, s.change(ctx, i.action, func(ctx context.Context, inDoubt bool) error {
		return s.transaction(ctx, newRow, func(conn *sqlx.Conn) error {
			return i.write(ctx, conn, before, inDoubt)
		})
	})
}

// importing is the work of one call of Import.
type importing struct {
	Exported
	ImportOptions
	store  *Store
	action string
	grant  credentials.Grant
	args   map[string]any
}

// prepare opens the values and makes the bind variables of the row.
func (i *importing) prepare(ctx context.Context) error {
	now, err := i.store.timeOfServer(ctx)
	if err != nil {
		return err
	}
	if i.grant, err = i.open(time.UnixMicro(now.Microseconds())); err != nil {
		return err
	}
	if i.args, err = i.store.putArgs(i.Key, i.grant); err != nil {
		return err
	}
	for name, event := range map[string]Event{
		"interrupted": i.Interrupted, "disabled": i.Disabled, "failed": i.Dead,
	} {
		i.args[name+"_by"], i.args[name+"_at"] = event.By, nil
		if event.By != "" {
			i.args[name+"_at"] = event.At.UnixMicro()
		}
	}
	i.args["dead"], i.args["code"], i.args["reason"] = i.Dead.By != "", i.DeadCode, i.DeadReason
	return nil
}

// open returns the grant, with the lifetimes that are left.
func (i *importing) open(now time.Time) (g credentials.Grant, err error) {
	values := secrets{
		access:  []byte(i.AccessToken.Reveal()),
		refresh: []byte(i.RefreshToken.Reveal()),
		extra:   []byte(i.Extra.Reveal()),
	}
	if i.Sealed {
		from := row{Service: i.Key.Service, Account: i.Key.Account, Deployment: i.Deployment}
		if err := i.store.owns(from); err != nil {
			return g, err
		}
		if !begins(values.extra) {
			return g, fmt.Errorf("%w: the values are said to be sealed, and are not", credentials.ErrSealed)
		}
		if values, err = i.store.sealer.open(i.Key, i.Deployment, values); err != nil {
			return g, err
		}
	}
	g.RefreshToken = credentials.NewSecret(string(values.refresh))
	if expired := !i.Expires.IsZero() && !i.Expires.After(now); !expired {
		g.AccessToken = credentials.NewSecret(string(values.access))
	}
	if !i.Expires.IsZero() && !g.AccessToken.IsZero() {
		g.Lifetime = i.Expires.Sub(now)
	}
	if !i.RefreshExpires.IsZero() {
		g.RefreshLifetime = min(i.RefreshExpires.Sub(now), credentials.Never-1)
	}
	var extra map[string]string
	if err := json.Unmarshal(values.extra, &extra); err != nil && len(values.extra) > 0 {
		return g, fmt.Errorf("%w: the entries beside the token are no JSON object of strings",
			credentials.ErrInvalidGrant)
	}
	g.Extra = make(map[string]credentials.Secret, len(extra))
	for name, value := range extra {
		g.Extra[name] = credentials.NewSecret(value)
	}
	return g, nil
}

// write writes the row in the transaction that is open on conn, if it is still as before.
func (i *importing) write(ctx context.Context, conn *sqlx.Conn, before row, inDoubt bool) error {
	s := i.store
	now, err := find(ctx, conn, s.selectForUpdate(), i.Key)
	switch {
	case err != nil:
		return err
	case now.ID == before.ID && now.Version == before.Version:
	case inDoubt:
		return s.whichWrote(now, i.grant)
	default:
		return fmt.Errorf("%w: somebody else wrote the credential meanwhile, which is left as it is",
			credentials.ErrSuperseded)
	}
	if _, err := exec(ctx, conn, s.sql.upsertPut, i.args); err != nil {
		return err
	}
	if (Event{}) == i.Interrupted && (Event{}) == i.Disabled && (Event{}) == i.Dead {
		return nil
	}
	_, err = exec(ctx, conn, s.sql.updateImported, i.args)
	return err
}
