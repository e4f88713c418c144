// Package migrations holds the schema of the credentials table and applies it with goose.
//
// A host that uses another migration tool takes [FS] (goose's annotations are SQL comments) or the
// output of [Schema]. Services do not import this package, so that goose is not linked into them:
// the package is for the command or job that prepares the database.
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
	"slices"
	"strings"
	"testing/fstest"

	"github.com/pressly/goose/v3"

	"github.com/latchkey-go/latchkey/credentials/mysql"
)

// FS holds the migrations, one DDL statement in each direction per file, for a table that is named
// `credentials`.
//
//go:embed *.sql
var FS embed.FS

// DefaultTable is the table's name where [Options] give none, the store's own default.
const DefaultTable = mysql.DefaultTable

// Errors that are wrapped where the database is not as this version of the library left it.
var (
	// ErrNewer says that the database has migrations that this version does not know.
	ErrNewer = errors.New("the database was migrated by a newer version of latchkey; update this program")

	// ErrForeign says that latchkey did not make the table of that name.
	ErrForeign = errors.New("the table is another program's; choose another name")

	// ErrIncomplete says that the migrations were applied, and that the table, or a column of it,
	// is gone since.
	ErrIncomplete = errors.New("all migrations were applied, but what they made is not there; restore it, " +
		"or take the migrations back (Down) and apply them again, which makes an empty table")
)

// Options change what is applied. Nil means the defaults.
type Options struct {
	// Table is the name of the credentials table, of letters, digits and underscores, at most 50.
	// Empty: DefaultTable. goose's version table stands beside it and is called Table +
	// "_migrations".
	Table string

	// OnlyCaller says that nobody else calls Up or Down at the same time, on this server or another
	// of its group, so that no lock is needed. Set OnlyCaller where a group has several primaries
	// (see [ErrSeveralPrimaries]), and where the server has no GET_LOCK, such as Percona XtraDB
	// Cluster in strict mode.
	OnlyCaller bool
}

var tableName = regexp.MustCompile(`^[A-Za-z0-9_]{1,50}$`)

// Up applies the migrations that are not applied yet. Any number of processes may call Up at once:
// one applies, the others wait. Nodes of a Galera cluster have no lock in common, so that programs
// which reach different nodes may apply the same, which changes nothing. Where nothing is left to
// apply, Up takes no lock and writes nothing, and looks whether the table is there (see
// [ErrIncomplete]).
//
// In a group with several primaries Up changes nothing unless [Options.OnlyCaller] is set; the
// error wraps [ErrSeveralPrimaries].
func Up(ctx context.Context, db *sql.DB, opts *Options) ([]*goose.MigrationResult, error) {
	s, err := open(db, opts)
	if err != nil {
		return nil, err
	}
	return repeat(ctx, s.up)
}

// up is one try of [Up].
func (s *schema) up(ctx context.Context) ([]*goose.MigrationResult, error) {
	applied, err := s.look(ctx)
	switch {
	case err != nil:
		return nil, err
	case applied == s.newest():
		return nil, s.complete(ctx)
	}
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	return s.provider.Up(ctx)
}

// Down takes back the newest migration that is applied; taking back the first one drops the table
// and all tokens in it. Without a migration to take back, the error wraps [goose.ErrNoNextVersion].
// Down refuses where Up does.
func Down(ctx context.Context, db *sql.DB, opts *Options) (*goose.MigrationResult, error) {
	s, err := open(db, opts)
	if err != nil {
		return nil, err
	}
	return repeat(ctx, s.down)
}

// down is one try of [Down].
func (s *schema) down(ctx context.Context) (*goose.MigrationResult, error) {
	applied, err := s.look(ctx)
	switch {
	case err != nil:
		return nil, err
	case applied == 0:
		return nil, goose.ErrNoNextVersion
	}
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	return s.provider.Down(ctx)
}

// Migration is one migration that this version knows.
type Migration struct {
	Version int64
	Name    string // its file in FS
	Applied bool
}

// Status lists the migrations that this version knows, and which of them are applied. Status writes
// nothing, and needs no more than SELECT. Where all are applied, Status looks whether the table is
// there (see [ErrIncomplete]). (Goose's own status reads a time, and so needs parseTime in the
// host's DSN.)
func Status(ctx context.Context, db *sql.DB, opts *Options) ([]Migration, error) {
	s, err := open(db, opts)
	if err != nil {
		return nil, err
	}
	return repeat(ctx, s.status)
}

// status is one try of [Status].
func (s *schema) status(ctx context.Context) (status []Migration, err error) {
	applied, err := s.look(ctx)
	if err == nil && applied == s.newest() {
		err = s.complete(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, source := range s.provider.ListSources() {
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

// schema is the table in one database, with the means to change it.
type schema struct {
	db         *sql.DB
	table      string
	versions   versions
	provider   *goose.Provider
	onlyCaller bool
}

func open(db *sql.DB, opts *Options) (*schema, error) {
	files, table, err := files(opts)
	if err != nil {
		return nil, err
	}
	s := &schema{db: db, table: table, onlyCaller: opts != nil && opts.OnlyCaller}
	if s.versions, err = newVersions(table); err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithStore(s.versions), goose.WithDisableGlobalRegistry(true)}
	if !s.onlyCaller {
		options = append(options, goose.WithSessionLocker(namedLock(table)))
	}
	s.provider, err = goose.NewProvider(goose.DialectCustom, db, files, options...)
	return s, err
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

// newest is the newest version that this program knows.
func (s *schema) newest() int64 {
	sources := s.provider.ListSources()
	return sources[len(sources)-1].Version
}

// look returns the newest version that is applied, 0 for none. The error keeps the program away
// from a newer schema and from somebody else's table, beside which not even a version table is
// made.
func (s *schema) look(ctx context.Context) (int64, error) {
	comment, exists, err := tableComment(ctx, s.db, s.table)
	switch {
	case err != nil:
		return 0, err
	case exists && !strings.HasPrefix(comment, "latchkey schema "):
		return 0, fmt.Errorf("table %q, whose comment is %q: %w", s.table, comment, ErrForeign)
	}
	return s.applied(ctx)
}

// applied returns the newest version that is applied, 0 for none. The error keeps an old program
// from a schema that the program does not know.
func (s *schema) applied(ctx context.Context) (int64, error) {
	applied, _, err := s.versions.latest(ctx, s.db)
	if known := s.newest(); err == nil && applied > known {
		err = fmt.Errorf("%w: it is at version %d, this program knows up to %d", ErrNewer, applied, known)
	}
	return applied, err
}

// column matches a line of a migration that makes a column.
var column = regexp.MustCompile("(?m)^    `([a-z_]+)` ")

// complete returns an error if the table, or a column of it, is not there.
func (s *schema) complete(ctx context.Context) error {
	text, err := Schema(&Options{Table: s.table})
	if err != nil {
		return err
	}
	there, err := columnsOf(ctx, s.db, s.table)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return fmt.Errorf("table %q: %w", s.table, ErrIncomplete)
	}
	for _, made := range column.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(there, made[1]) {
			return fmt.Errorf("column %q of table %q: %w", made[1], s.table, ErrIncomplete)
		}
	}
	return nil
}

// admit returns an error if the schema must not be changed from here.
func (s *schema) admit(ctx context.Context) error {
	if s.onlyCaller {
		return nil
	}
	return refuseSeveral(ctx, s.db)
}
