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
)

// TestMain makes this program the workers too; their first argument says how they misbehave.
func TestMain(m *testing.M) {
	if storm.IsWorker() {
		if err := worker(slices.Concat(os.Args, []string{"", ""})[1]); err != nil {
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

// worker is a worker whose lines, in either direction, pass through what its fault does to them.
func worker(fault string) error {
	heard, said := func(line []byte) []byte { return line }, func(line []byte) []byte { return line }
	switch fault {
	case "":
		return storm.Worker(context.Background(), os.Stdin, os.Stdout)
	case "dies":
		heard = func(line []byte) []byte {
			if bytes.Contains(line, []byte(`"sent"`)) {
				_, _ = fmt.Fprintln(os.Stderr, "out of luck")
				os.Exit(3)
			}
			return line
		}
	case "talks nonsense":
		_, err := fmt.Println("Usage: this is no worker")
		return err
	case "lingers": // and keeps a connection to the test
		conn, err := net.Dial("tcp", os.Args[2])
		if err != nil {
			return err
		}
		if err := storm.Worker(context.Background(), os.Stdin, os.Stdout); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn)
		return err
	case "calls twice":
		heard = func(line []byte) []byte {
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
	case "foreign token":
		said = func(line []byte) []byte { return bytes.ReplaceAll(line, []byte(`"token":"`), []byte(`"token":"0`)) }
	case "holds a connection":
		said = func(line []byte) []byte { return bytes.Replace(line, []byte(`"held":0`), []byte(`"held":1`), 1) }
	case "cannot tell":
		said = func(line []byte) []byte { return bytes.Replace(line, []byte(`"lost":0`), []byte(`"lost":1`), 1) }
	default:
		return fmt.Errorf("no such fault: %s", fault)
	}
	in, toWorker := io.Pipe()
	fromWorker, out := io.Pipe()
	go func() { _ = toWorker.CloseWithError(pass(os.Stdin, toWorker, heard)) }()
	ended := make(chan error)
	go func() { ended <- pass(fromWorker, os.Stdout, said) }()
	err := storm.Worker(context.Background(), in, out)
	_ = out.Close()
	return errors.Join(err, <-ended)
}

// pass copies lines from r to w as change has them.
func pass(r io.Reader, w io.Writer, change func([]byte) []byte) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		if _, err := fmt.Fprintf(w, "%s\n", change(lines.Bytes())); err != nil {
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
	for _, statement := range []string{"DROP DATABASE IF EXISTS ", "CREATE DATABASE "} { // go test -count=2 comes again
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
	return storm.Config{DSN: dsn, Latency: 50 * time.Millisecond, Timeout: time.Minute, Command: []string{os.Args[0], fault}}
}

func TestStormNeedsOneExchangeForEachAccountAndRound(t *testing.T) {
	for name, change := range map[string]func(*storm.Config){
		"defaults":           func(*storm.Config) {},
		"one connection":     func(c *storm.Config) { c.Pool = 1 },
		"rounds and threads": func(c *storm.Config) { c.Rounds, c.Threads, c.Accounts = 3, 8, 5 },
		"one of everything":  func(c *storm.Config) { c.Processes, c.Threads, c.Accounts, c.Pool = 1, 1, 1, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(database(t), "")
			cfg.Latency = 500 * time.Millisecond // so that exchanges overlap on a slow machine too
			change(&cfg)
			r, err := storm.Run(t.Context(), cfg)
			must(t, err)
			if !r.OK || len(r.Violations) > 0 {
				t.Fatalf("violations: %q", r.Violations)
			}
			if want := r.Accounts * r.Rounds; r.Refreshes.Needed != want || r.Refreshes.Calls != want || r.Refreshes.Duplicates != 0 {
				t.Errorf("refreshes = %+v, want %d needed and called", r.Refreshes, want)
			}
			if want := r.Processes * r.Threads * r.Accounts * r.Rounds; r.Callers != want || r.CallersOK != want {
				t.Errorf("%d callers, %d ok; want %d", r.Callers, r.CallersOK, want)
			}
			if r.Refreshes.MaxParallelAccounts < min(2, r.Accounts) {
				t.Errorf("the exchanges of %d accounts did not overlap", r.Accounts)
			}
			if r.LatencyMS.P50 < 500 || r.LatencyMS.P99 < r.LatencyMS.P50 || r.LatencyMS.Max < r.LatencyMS.P99 {
				t.Errorf("latencies = %+v, with an endpoint that takes 500 ms", r.LatencyMS)
			}
			if len(r.PerAccount) != r.Accounts || r.PerAccount[0].Calls != r.Rounds {
				t.Errorf("per account: %+v", r.PerAccount)
			}
			if rows := remaining(t, cfg.DSN); rows != 0 {
				t.Errorf("%d rows remain", rows)
			}
		})
	}
}

func TestStormReportsWhatBroke(t *testing.T) {
	for fault, want := range map[string][]string{
		"dies":               {"worker 1 ended unexpectedly: exit status 3: out of luck", "24 of 24 callers got no token"},
		"talks nonsense":     {"worker 1 ended unexpectedly", "does its main call storm.Worker?"},
		"calls twice":        {"the endpoint got 4 calls where 3 were needed"},
		"foreign token":      {"callers got a token of account-1 that is not the one in its row"},
		"holds a connection": {"a flight held 1 connections during its exchange"},
		"cannot tell":        {"could not be told whether an exchange held a connection"},
	} {
		t.Run(fault, func(t *testing.T) {
			cfg := config(database(t), fault)
			r, err := storm.Run(t.Context(), cfg)
			must(t, err)
			if r.OK {
				t.Error("OK = true")
			}
			got := strings.Join(r.Violations, "\n")
			for _, text := range want {
				if !strings.Contains(got, text) {
					t.Errorf("violations:\n%s\nwant %q among them", got, text)
				}
			}
			if rows := remaining(t, cfg.DSN); rows != 0 {
				t.Errorf("%d rows remain", rows)
			}
		})
	}
}

func TestNoWorkerOutlivesTheStorm(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	cfg := config(database(t), "lingers")
	cfg.Processes = 1
	cfg.Command = append(cfg.Command, listener.Addr().String())
	_, err = storm.Run(t.Context(), cfg)
	must(t, err)
	conn, err := listener.Accept()
	must(t, err)
	// The worker's end closes with its process, and only then.
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the worker lives on")
	}
}

func TestStormEndsWithItsContext(t *testing.T) {
	cfg := config(database(t), "")
	cfg.Latency = time.Hour // nothing but the end of the context ends it
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg.Progress = func(doing string) {
		if strings.HasPrefix(doing, "round 1") {
			cancel(stop)
		}
	}
	if _, err := storm.Run(ctx, cfg); !errors.Is(err, stop) {
		t.Errorf("Run = %v, want the context's cause", err)
	}
	if rows := remaining(t, cfg.DSN); rows != 0 {
		t.Errorf("%d rows remain", rows)
	}
}

func TestStormIsBoundedInTime(t *testing.T) {
	cfg := config(database(t), "")
	cfg.Latency, cfg.Timeout = time.Hour, time.Second
	if _, err := storm.Run(t.Context(), cfg); !errors.Is(err, storm.ErrTimeout) {
		t.Errorf("Run = %v, want ErrTimeout", err)
	}
}

func TestWorkerEndsWithItsParent(t *testing.T) {
	stdin, parent := io.Pipe()
	ended := make(chan error)
	go func() { ended <- storm.Worker(context.Background(), stdin, io.Discard) }()
	_ = parent.Close()
	if err := <-ended; err == nil {
		t.Error("Worker = nil without a job")
	}
}

func TestStormRefusesNonsense(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*testing.T, *storm.Config)
		want   string
	}{
		"negative":             {func(_ *testing.T, c *storm.Config) { c.Processes = -1 }, "processes: -1 is not between 1 and 256"},
		"too many callers":     {func(_ *testing.T, c *storm.Config) { c.Threads, c.Accounts = 10_000, 10_000 }, "threads × accounts"},
		"negative latency":     {func(_ *testing.T, c *storm.Config) { c.Latency = -1 }, "must not be negative"},
		"no DSN":               {func(_ *testing.T, c *storm.Config) { c.DSN = "" }, "DSN"},
		"unreadable DSN":       {func(_ *testing.T, c *storm.Config) { c.DSN = "root:hunter2@tcp(localhost" }, "the DSN cannot be read"},
		"more than the server": {func(t *testing.T, c *storm.Config) { c.DSN, c.Pool = database(t), 1000 }, "choose a smaller pool"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config("root:hunter2@tcp(127.0.0.1:1)/x", "")
			test.change(t, &cfg)
			_, err := storm.Run(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Run = %v, want %q and no password", err, test.want)
			}
		})
	}
}

func remaining(t *testing.T, dsn string) (rows int) {
	t.Helper()
	must(t, open(t, dsn).QueryRowContext(t.Context(), "SELECT COUNT(*) FROM credentials").Scan(&rows))
	return rows
}
