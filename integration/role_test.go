package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/latchkey-go/latchkey/credentials"
	latchkey "github.com/latchkey-go/latchkey/credentials/mysql"
	"github.com/latchkey-go/latchkey/migrations"
)

// roleEnv has this program start as one of the processes that a test needs. Its work comes on stdin, since a DSN holds
// a password.
const roleEnv = "LATCHKEY_TEST_ROLE"

// work is what a process is to do, with a store on DSN.
type work struct {
	DSN  string
	Puts int
}

// playRole does what that role does and returns the exit status.
func playRole(role string) int {
	roles := map[string]func() error{
		"container": func() error { return keep(os.Stdin, os.Stdout) },
		"migrator":  func() error { return doWork(migrateOnce) },
		"putter":    func() error { return doWork(putMany) },
		"renewer":   func() error { return renew(os.Stdin, os.Stdout) },
		"service":   func() error { return serve(os.Stdin, os.Stdout) },
	}
	do, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s=%q is no role\n", roleEnv, role)
		return 1
	}
	if err := do(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return 1
	}
	return 0
}

// roleCommand is this program in that role.
func roleCommand(role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd, nil
}

// roleProcess is a process in a role, on the test's side.
type roleProcess struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *json.Decoder
	stderr bytes.Buffer // to be read when it has ended
	end    sync.Once
	endErr error
}

// startRole starts a process in that role, with its work on the first line of its stdin. It is gone when the test has
// ended.
func startRole(t testing.TB, role, name string, work any) *roleProcess {
	t.Helper()
	encoded, err := json.Marshal(work)
	if err != nil {
		t.Fatal(err)
	}
	p := &roleProcess{name: name}
	if p.cmd, err = roleCommand(role); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = json.NewDecoder(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if _, err := p.stdin.Write(append(encoded, '\n')); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return p
}

// kill ends it by SIGKILL, if it still runs.
func (p *roleProcess) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.wait()
}

func (p *roleProcess) wait() error {
	p.end.Do(func() { p.endErr = p.cmd.Wait() })
	return p.endErr
}

// answer reads the next line that it writes. err is that of having asked for it.
func (p *roleProcess) answer(t testing.TB, err error, into any) {
	t.Helper()
	giveUp := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer giveUp.Stop()
	if err == nil {
		err = p.stdout.Decode(into)
	}
	if err != nil {
		p.kill()
		t.Fatalf("%s: %v: %s", p.name, err, p.stderr.Bytes())
	}
}

// ends fails the test unless the process ends by itself, with success.
func (p *roleProcess) ends(t testing.TB) {
	t.Helper()
	giveUp := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer giveUp.Stop()
	if err := p.wait(); err != nil {
		t.Errorf("%s: %v: %s", p.name, err, p.stderr.Bytes())
	}
}

// inProcesses runs n processes in that role and fails the test unless all of them succeed. They begin when the last of
// them is ready.
func inProcesses(t *testing.T, n int, role string, w work) {
	t.Helper()
	processes := make([]*roleProcess, n)
	for i := range processes {
		processes[i] = startRole(t, role, fmt.Sprint(role, " ", i), w)
	}
	for _, p := range processes {
		var ready bool
		p.answer(t, nil, &ready)
	}
	for _, p := range processes {
		if _, err := p.stdin.Write([]byte("\n")); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	for _, p := range processes {
		p.ends(t)
	}
}

// readWork reads the line that startRole wrote.
func readWork(in *bufio.Reader, into any) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}

// doWork connects, says that it is ready, and does its work when the next line comes.
func doWork(do func(context.Context, work, *sql.DB) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	in := bufio.NewReader(os.Stdin)
	var w work
	if err := readWork(in, &w); err != nil {
		return err
	}
	config, err := mysql.ParseDSN(w.DSN)
	if err != nil {
		return err
	}
	db := open(config)
	defer func() { _ = db.Close() }()
	if err := db.PingContext(ctx); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(true); err != nil {
		return err
	}
	if _, err := in.ReadBytes('\n'); err != nil {
		return err
	}
	return do(ctx, w, db)
}

// migrateOnce is the role of the migrator.
func migrateOnce(ctx context.Context, _ work, db *sql.DB) error {
	_, err := migrations.Up(ctx, db, nil)
	return err
}

// putMany is the role of the putter: puts of one key by 16 goroutines, and each of a key of its own.
func putMany(ctx context.Context, w work, db *sql.DB) error {
	store, err := latchkey.NewStore(db, nil)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for i := range w.Puts {
		go func() {
			grant := credentials.Grant{Token: credentials.NewSecret(fmt.Sprintf("%d of %d", i, os.Getpid())), Lifetime: time.Hour}
			own := credentials.Key{Service: alice.Service, Account: fmt.Sprintf("%d of %d", i, os.Getpid())}
			err := store.Put(ctx, alice, grant)
			if err == nil {
				err = store.Put(ctx, own, grant)
			}
			errs <- err
		}()
	}
	var failed error
	for range w.Puts {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}
