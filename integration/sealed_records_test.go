package integration_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/keyset"
	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// secretKinds are the beginnings of the secrets of these tests, and of a storm's token endpoint.
// Random text as of crypto/rand.Text follows.
var secretKinds = []string{"access-", "refresh-", "identity-"}

var randomText = regexp.MustCompile(`^[A-Z2-7]{26}`)

// secretsIn returns the secrets in a file's text. A regular expression alone would take minutes to
// read a server's files.
func secretsIn(text []byte) (found []string) {
	for _, kind := range secretKinds {
		for _, rest, ok := bytes.Cut(text, []byte(kind)); ok; _, rest, ok = bytes.Cut(rest, []byte(kind)) {
			if random := randomText.Find(rest[:min(len(rest), 26)]); random != nil {
				found = append(found, kind+string(random))
			}
		}
	}
	return found
}

// recorded is a server of the test's own that keeps all the records of statements that it can.
type recorded struct {
	*private

	// files calls read for every file of the server's data.
	files func(t *testing.T, read func(name string, content io.Reader))
}

// allRecords are the records in which a secret that is not sealed is found.
var allRecords = []string{
	"table files", "redo log", "binary log", "general log", "slow log", "performance_schema",
}

// TestSealedTokensStandInNoRecord (invariant 14): after a storm whose tokens are sealed, and with
// rows in the table, no file of the server and no record of statements has a token. After the same
// without sealing each of the records has some.
func TestSealedTokensStandInNoRecord(t *testing.T) {
	t.Parallel()
	for _, kind := range requirePrivate(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := startRecorded(t, kind)
			k, err := keyset.New()
			must(t, err)
			r.leaveTraces(t, k)
			for record, secrets := range r.read(t) {
				t.Errorf("%s: %d secrets though they were sealed, %s among them",
					record, len(secrets), secrets[0])
			}
			r.leaveTraces(t, nil)
			found := r.read(t)
			for _, record := range allRecords {
				if len(found[record]) == 0 {
					t.Errorf("%s: no secret though nothing was sealed, so that the test would find none", record)
				}
			}
		})
	}
}

// leaveTraces has the server see tokens: those of a storm, whose rows are removed, and those of a
// few credentials, which stay.
func (r *recorded) leaveTraces(t *testing.T, k *keyset.Keyset) {
	t.Helper()
	report := runStorm(t, r.server, storm.Config{
		Keyset: k, Processes: 2, Rounds: 2, Latency: 50 * time.Millisecond,
	})
	equal(t, "sealed", report.Sealed, k != nil)

	database := r.migrated(t)
	for _, params := range []string{interpolated, ""} {
		store, err := worker.NewStore(r.open(t, database, params), k)
		must(t, err)
		put(t, store, keyOf("bob"), marked())
		due := marked()
		due.AccessToken, due.Lifetime = credentials.Secret{}, 0
		put(t, store, alice, due)
		renewed := renewal("")
		renewed.Grant = marked()
		must(t, store.Save(bounded(t), claim(t, store, alice).Fence(), renewed))
		equal(t, "the token in the row",
			get(t, store, alice).AccessToken.Reveal(), renewed.Grant.AccessToken.Reveal())
	}
	// The table's file has its pages from then on.
	db := r.open(t, database, "")
	db.SetMaxOpenConns(1)
	execute(t, db, "FLUSH TABLES credentials FOR EXPORT")
	execute(t, db, "UNLOCK TABLES")
}

// marked is a grant of secrets that secretsIn finds.
func marked() credentials.Grant {
	return credentials.Grant{
		AccessToken:  credentials.NewSecret("access-" + rand.Text()),
		RefreshToken: credentials.NewSecret("refresh-" + rand.Text()),
		Lifetime:     time.Hour,
		Extra:        map[string]credentials.Secret{"id_token": credentials.NewSecret("identity-" + rand.Text())},
	}
}

// startRecorded starts a server of that kind.
func startRecorded(t *testing.T, kind string) *recorded {
	t.Helper()
	var r *recorded
	if kind == "docker" {
		r = &recorded{private: inContainer(t)}
		r.files = func(t *testing.T, read func(string, io.Reader)) {
			t.Helper()
			containerFiles(t, r.container, read)
		}
	} else {
		r = recordedHere(t)
	}
	execute(t, r.admin, "UPDATE performance_schema.setup_consumers SET enabled = 'YES'")
	for _, setting := range []string{"general_log", "slow_query_log"} {
		execute(t, r.admin, "SET GLOBAL "+setting+" = ON")
	}
	execute(t, r.admin, "SET GLOBAL long_query_time = 0")
	// Sessions from before have the old setting.
	r.admin.SetMaxIdleConns(0)
	return r
}

func recordedHere(t *testing.T) *recorded {
	t.Helper()
	dir := t.TempDir()
	s, err := localmysql.Start(context.Background(), &localmysql.Options{Dir: dir, Args: []string{
		"--performance-schema=ON",
		"--performance-schema-max-sql-text-length=65536", // the values stand at the statement's end
	}})
	must(t, err)
	t.Cleanup(func() { succeeds(t, "Stop", s.Stop()) })
	r := &recorded{private: &private{server: connect(t, s.DSN(""))}}
	r.files = func(t *testing.T, read func(string, io.Reader)) {
		t.Helper()
		must(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			read(name, file)
			return nil
		}))
	}
	return r
}

// containerFiles reads the server's data out of its container.
func containerFiles(t *testing.T, id string, read func(string, io.Reader)) {
	t.Helper()
	command := exec.CommandContext(bounded(t), "docker", "cp", id+":/var/lib/mysql", "-")
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	archive := tar.NewReader(out)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if header.Typeflag == tar.TypeReg {
			read(header.Name, archive)
		}
	}
	must(t, command.Wait())
}

// records are the kinds of places in which a server keeps what was written, with the secrets found
// in each.
type records map[string][]string

// recordOf is the kind of record that a file is.
func recordOf(name string) string {
	base := path.Base(name)
	switch {
	case base == "credentials.ibd":
		return "table files"
	case strings.HasPrefix(base, "ib_logfile"), strings.Contains(name, "#innodb_redo"):
		return "redo log"
	case strings.HasPrefix(base, "binlog."):
		return "binary log"
	case strings.HasSuffix(base, "-slow.log"):
		return "slow log"
	case strings.HasSuffix(base, ".log") && base != "error.log" && base != "initialize.log":
		return "general log"
	}
	return "other files"
}

// read adds the secrets of every record.
func (r *recorded) read(t *testing.T) records {
	t.Helper()
	found := make(records)
	r.files(t, func(name string, content io.Reader) {
		text, err := io.ReadAll(content)
		must(t, err)
		found.add(recordOf(name), text)
	})
	for _, column := range rowsOf(t, r.admin, `SELECT table_name AS t, column_name AS c
		FROM information_schema.columns WHERE table_schema = 'performance_schema'
		AND column_name IN ('SQL_TEXT', 'DIGEST_TEXT', 'QUERY_SAMPLE_TEXT', 'PROCESSLIST_INFO', 'INFO')`) {
		statement := fmt.Sprintf("SELECT `%[1]s` AS found FROM performance_schema.`%[2]s` WHERE `%[1]s` IS NOT NULL",
			column.text("c"), column.text("t"))
		for _, row := range rowsOf(t, r.admin, statement) {
			found.add("performance_schema", []byte(row.text("found")))
		}
	}
	return found
}

// add adds the secrets in the text, if there are any.
func (r records) add(record string, text []byte) {
	if secrets := secretsIn(text); len(secrets) > 0 {
		r[record] = append(r[record], secrets...)
	}
}
