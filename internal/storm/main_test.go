package storm_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/internal/localmysql"
	"github.com/latchkey-go/latchkey/internal/storm"
	"github.com/latchkey-go/latchkey/internal/storm/report"
	"github.com/latchkey-go/latchkey/internal/storm/worker"
)

// TestMain makes this program the workers too. A worker's first argument is the way in which it
// misbehaves.
func TestMain(m *testing.M) {
	if worker.Started() {
		if err := misbehave(slices.Concat(os.Args, []string{"", ""})[1]); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	code := m.Run()
	if private.server != nil {
		_ = private.server.Stop()
	}
	os.Exit(code)
}

// misbehave is a worker with a fault of its own, most of which change the lines that it receives or
// sends.
func misbehave(fault string) error {
	switch fault {
	case "":
		return worker.Run(context.Background(), os.Stdin, os.Stdout)
	case "dies":
		return runChanged(dieInRound, nil)
	case "talks nonsense":
		_, err := fmt.Println("Usage: this is no worker")
		return err
	case "lingers": // The worker keeps a connection to the test.
		conn, err := net.Dial("tcp", os.Args[2])
		if err != nil {
			return err
		}
		if err := worker.Run(context.Background(), os.Stdin, os.Stdout); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn)
		return err
	case "calls twice":
		return runChanged(presentOnceMore, nil)
	case "foreign token":
		return runChanged(nil, replaced(`"token":"`, `"token":"0`))
	case "holds a connection":
		return runChanged(nil, replaced(`"held":0`, `"held":1`))
	case "reads late":
		return runChanged(replaced("@tcp(", "@late("), nil)
	case "reads at once":
		return runChanged(replaced("@late(", "@tcp("), nil)
	case "cannot tell":
		return runChanged(nil, replaced(`"unattributed":0`, `"unattributed":1`))
	}
	return fmt.Errorf("no such fault: %s", fault)
}

func dieInRound(line []byte) []byte {
	if bytes.Contains(line, []byte(`"sent"`)) {
		_, _ = fmt.Fprintln(os.Stderr, "out of luck")
		os.Exit(3)
	}
	return line
}

// presentOnceMore has the first worker present an unknown refresh token when the job arrives.
func presentOnceMore(line []byte) []byte {
	var job struct {
		Worker       int
		TokenURL     string `json:"token_url"`
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	if json.Unmarshal(line, &job) == nil && job.Worker == 1 {
		response, err := http.PostForm(job.TokenURL, url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {"refresh-nobodys"},
			"client_id": {job.ClientID}, "client_secret": {job.ClientSecret},
		})
		if err == nil {
			_ = response.Body.Close()
		}
	}
	return line
}

func replaced(old, new string) func(line []byte) []byte {
	return func(line []byte) []byte { return bytes.ReplaceAll(line, []byte(old), []byte(new)) }
}

// runChanged runs a worker and changes the lines that it receives and sends. Nil changes nothing.
func runChanged(received, sent func(line []byte) []byte) error {
	in, toWorker := io.Pipe()
	fromWorker, out := io.Pipe()
	go func() { _ = toWorker.CloseWithError(copyLines(os.Stdin, toWorker, received)) }()
	ended := make(chan error)
	go func() { ended <- copyLines(fromWorker, os.Stdout, sent) }()
	err := worker.Run(context.Background(), in, out)
	_ = out.Close()
	return errors.Join(err, <-ended)
}

func copyLines(r io.Reader, w io.Writer, change func(line []byte) []byte) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		line := lines.Bytes()
		if change != nil {
			line = change(line)
		}
		if _, err := fmt.Fprintf(w, "%s\n", line); err != nil {
			return err
		}
	}
	return lines.Err()
}

// private is the server of all these tests; nil until one needs it.
var private struct {
	once   sync.Once
	server *localmysql.Server
	err    error
}

// database makes a database on the private server and returns its DSN.
func database(t *testing.T) string {
	t.Helper()
	private.once.Do(func() { private.server, private.err = localmysql.Start(t.Context(), nil) })
	must(t, private.err)
	db := open(t, private.server.DSN(""))
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, t.Name())
	name = name[:min(len(name), 60)]
	// With go test -count=2 the database exists already.
	for _, statement := range []string{"DROP DATABASE IF EXISTS ", "CREATE DATABASE "} {
		_, err := db.ExecContext(t.Context(), statement+"`"+name+"`")
		must(t, err)
	}
	return private.server.DSN(name)
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// config is a storm whose workers misbehave in that way.
func config(dsn, fault string) storm.Config {
	return storm.Config{
		DSN: dsn, Latency: 50 * time.Millisecond, Timeout: time.Minute,
		Command: []string{os.Args[0], fault},
	}
}

// run does the storm, which must remove its rows.
func run(t *testing.T, cfg storm.Config) report.Report {
	t.Helper()
	r, err := storm.Run(t.Context(), cfg)
	must(t, err)
	wantNoRows(t, cfg.DSN)
	return r
}

func wantNoRows(t *testing.T, dsn string) {
	t.Helper()
	var rows int
	row := open(t, dsn).QueryRowContext(t.Context(), "SELECT COUNT(*) FROM credentials")
	must(t, row.Scan(&rows))
	if rows != 0 {
		t.Errorf("%d rows remain", rows)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
