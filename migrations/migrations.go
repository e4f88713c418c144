// Package migrations holds the schema of the credentials table and applies it with goose.
//
// A host that uses another migration tool takes [FS] (goose's annotations are SQL comments) or the output of [Schema].
// Services do not import this package; it is for the command or job that prepares the database, so that goose is not
// linked into them.
package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// FS holds the migrations, one DDL statement in each direction per file. They name the table `credentials`.
//
//go:embed *.sql
var FS embed.FS

// DefaultTable is the table's name where [Options] give none.
const DefaultTable = "credentials"

// ErrNewer is wrapped where the database has migrations that this version of the library does not know.
var ErrNewer = errors.New("the database was migrated by a newer version of latchkey; update this program")

// ErrForeign is wrapped where a table of that name is there that latchkey did not make.
var ErrForeign = errors.New("the table is another program's; choose another name")

// Options change what is applied. Nil means the defaults.
type Options struct {
	// Table is the name of the credentials table, of letters, digits and underscores, at most 50. Empty: DefaultTable.
	// goose's version table stands beside it and is called Table + "_migrations".
	Table string
}

var tableName = regexp.MustCompile(`^[A-Za-z0-9_]{1,50}$`)

// Up applies what is not applied yet. Any number of processes may call it at once: one applies, the others wait.
func Up(ctx context.Context, db *sql.DB, opts *Options) ([]*goose.MigrationResult, error) {
	provider, err := provider(db, opts)
	if err != nil {
		return nil, err
	}
	if err := refuse(ctx, db, opts, provider); err != nil {
		return nil, err
	}
	return provider.Up(ctx)
}

// Down takes back the newest migration that is applied; taking back the first one drops the table and all tokens in
// it. Without one to take back, the error wraps [goose.ErrNoNextVersion].
func Down(ctx context.Context, db *sql.DB, opts *Options) (*goose.MigrationResult, error) {
	provider, err := provider(db, opts)
	if err != nil {
		return nil, err
	}
	if err := refuse(ctx, db, opts, provider); err != nil {
		return nil, err
	}
	return provider.Down(ctx)
}

// Migration is one migration that this version knows.
type Migration struct {
	Version int64
	Name    string // its file in FS
	Applied bool
}

// Status lists the migrations that this version knows, and which of them are applied. (goose's own status reads a
// time, and so needs parseTime in the host's DSN.)
func Status(ctx context.Context, db *sql.DB, opts *Options) ([]Migration, error) {
	provider, err := provider(db, opts)
	if err != nil {
		return nil, err
	}
	if err := refuseNewer(ctx, provider); err != nil {
		return nil, err
	}
	applied, err := provider.GetDBVersion(ctx)
	if err != nil {
		return nil, err
	}
	var status []Migration
	for _, source := range provider.ListSources() {
		status = append(status, Migration{source.Version, source.Path, source.Version <= applied})
	}
	return status, nil
}

// Schema returns the SQL that makes the table, for people and for other tools.
func Schema(opts *Options) (string, error) {
	files, _, err := files(opts)
	if err != nil {
		return "", err
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return "", err
	}
	var schema strings.Builder
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return "", err
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		schema.WriteString(strings.TrimSpace(strings.TrimPrefix(up, "-- +goose Up")) + "\n")
	}
	return schema.String(), nil
}

func provider(db *sql.DB, opts *Options) (*goose.Provider, error) {
	files, table, err := files(opts)
	if err != nil {
		return nil, err
	}
	store, err := database.NewStore(database.DialectMySQL, table+"_migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectCustom, db, files,
		goose.WithStore(store),
		goose.WithSessionLocker(namedLock(table)),
		goose.WithDisableGlobalRegistry(true))
}

// files returns the migrations for the table that opts name, and its name.
func files(opts *Options) (fs.FS, string, error) {
	table := DefaultTable
	if opts != nil {
		table = cmp.Or(opts.Table, DefaultTable)
	}
	if !tableName.MatchString(table) {
		return nil, "", fmt.Errorf("table name %q: use 1 to 50 letters, digits and underscores", table)
	}
	if table == DefaultTable {
		return FS, table, nil
	}
	renamed := fstest.MapFS{}
	names, err := fs.Glob(FS, "*.sql")
	if err != nil {
		return nil, "", err
	}
	for _, name := range names {
		text, err := FS.ReadFile(name)
		if err != nil {
			return nil, "", err
		}
		text = []byte(strings.ReplaceAll(string(text), "`"+DefaultTable+"`", "`"+table+"`"))
		renamed[name] = &fstest.MapFile{Data: text}
	}
	return renamed, table, nil
}

// refuse keeps a program from what it should not touch: somebody else's table, beside which it does not even put its
// version table, and a newer schema.
func refuse(ctx context.Context, db *sql.DB, opts *Options, p *goose.Provider) error {
	_, table, err := files(opts)
	if err != nil {
		return err
	}
	var comment string
	err = db.QueryRowContext(ctx,
		"SELECT table_comment FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?", table).Scan(&comment)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return fmt.Errorf("look for table %q: %w", table, err)
	case !strings.HasPrefix(comment, "latchkey schema "):
		return fmt.Errorf("table %q, whose comment is %q: %w", table, comment, ErrForeign)
	}
	return refuseNewer(ctx, p)
}

// refuseNewer keeps an old program from working on a schema that it does not know.
func refuseNewer(ctx context.Context, p *goose.Provider) error {
	applied, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the migrations' version table: %w", err)
	}
	sources := p.ListSources()
	if known := sources[len(sources)-1].Version; applied > known {
		return fmt.Errorf("%w: it is at version %d, this program knows up to %d", ErrNewer, applied, known)
	}
	return nil
}
