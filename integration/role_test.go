package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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
	DSN   string
	Puts  int
	Start time.Time // when all processes begin
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

// inProcesses runs n processes in that role at once and fails the test unless all of them succeed.
func inProcesses(t *testing.T, n int, role string, w work) {
	t.Helper()
	// They take about that long to start. One that comes late begins late, and the test is merely weaker.
	w.Start = time.Now().Add(200 * time.Millisecond)
	encoded, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	for range n {
		cmd, err := roleCommand(role)
		if err != nil {
			t.Fatal(err)
		}
		var output bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(encoded), &output, &output
		go func() {
			giveUp := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			defer giveUp.Stop()
			if err := cmd.Run(); err != nil {
				err = fmt.Errorf("%w: %s", err, output.Bytes())
				ended <- err
				return
			}
			ended <- nil
		}()
	}
	for range n {
		if err := receive(t, "a process to end", ended); err != nil {
			t.Errorf("a %s: %v", role, err)
		}
	}
}

func doWork(do func(context.Context, work, *mysql.Config) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var w work
	if err := json.NewDecoder(os.Stdin).Decode(&w); err != nil {
		return err
	}
	config, err := mysql.ParseDSN(w.DSN)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(w.Start))
	return do(ctx, w, config)
}

// migrateOnce is the role of the migrator.
func migrateOnce(ctx context.Context, _ work, config *mysql.Config) error {
	db := open(config)
	defer func() { _ = db.Close() }()
	_, err := migrations.Up(ctx, db, nil)
	return err
}

// putMany is the role of the putter: puts of one key by 16 goroutines, and each of a key of its own.
func putMany(ctx context.Context, w work, config *mysql.Config) error {
	db := open(config)
	defer func() { _ = db.Close() }()
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
