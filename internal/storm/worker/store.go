package worker

import (
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/internal/keyset"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// NewStore returns a store that seals under the keyset and takes no plain token or, where the
// keyset is nil, stores tokens as they are, as most storms do on purpose.
func NewStore(db *sql.DB, k *keyset.Keyset) (*mysql.Store, error) {
	if k == nil {
		return mysql.NewStore(db, &mysql.Options{Logger: slog.New(slog.DiscardHandler)})
	}
	aead, err := k.AEAD()
	if err != nil {
		return nil, err
	}
	return mysql.NewStore(db, &mysql.Options{AEAD: aead, RequireSealed: true})
}

// openStore opens the store of a job.
func openStore(db *sql.DB, job wire.Job) (*mysql.Store, error) {
	if job.Keyset == "" {
		return NewStore(db, nil)
	}
	k, err := keyset.Parse([]byte(job.Keyset))
	if err != nil {
		return nil, fmt.Errorf("the job %w", err)
	}
	return NewStore(db, k)
}
