// Package localmysql runs a private, throw-away MySQL or MariaDB server from a program that is
// installed on this machine.
//
// The server is as durable as a production one (it flushes its redo log and its binary log at every
// commit), so that what is measured against it means something; it merely uses little memory. It
// listens on a free loopback port, its only account has a random password, and everything it writes
// is in one temporary folder.
//
// Server and folder go with the owning program, in whatever way it ends (Stop, a return from main,
// a signal, a panic, SIGKILL): a watchdog process holds the other end of a pipe, and acts when that
// pipe closes. No signal handler is installed. The server runs in a process group of its own: a
// Ctrl-C on the terminal reaches the program, and the program may still use the server while it
// finishes its work.
package localmysql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// startTimeout bounds a start whose context has no deadline. MySQL initializes its data in 3 s
	// on two slow cores.
	startTimeout = 90 * time.Second
	// portAttempts: between the choice of a free port and the server's bind, somebody else may take
	// it.
	portAttempts = 5
	// pollInterval is the pause between two attempts to connect to a server that is starting.
	pollInterval = 15 * time.Millisecond
	// greetingTime is after which a server that has not greeted is taken for frozen.
	greetingTime = 100 * time.Millisecond
)

// ErrStopped is what Restart returns after Stop.
var ErrStopped = errors.New("localmysql: the server was stopped")

// Options change what Start does; nil means the defaults.
type Options struct {
	// Program is the path of the mysqld or mariadbd to run. Empty means the one that Find reports.
	Program string
	// Dir is where the server's temporary folder is made. Empty means os.TempDir.
	Dir string
	// Args are passed to the server after the package's own, so that they win.
	Args []string
}

// Server is a running private server. Its methods may be called by several goroutines.
type Server struct {
	program  string
	mariadb  bool
	dir      string
	password string
	args     []string
	watchdog *watchdog

	mu      sync.Mutex
	stopped bool     // guarded by mu
	process *process // guarded by mu; nil while there is none
	port    int      // written by Start only
}

// Start starts a server with empty data and returns when it answers queries over TCP. The context
// (and, where it has no earlier deadline, a limit of 90 seconds) bounds the start alone: the server
// lives until Stop or the program's end.
//
// The error wraps ErrNoServer if no server program is installed; if the server did not start, it
// ends with the last lines of its error log. Nothing is left behind then.
func Start(ctx context.Context, opts *Options) (*Server, error) {
	if opts == nil {
		opts = &Options{}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	program := opts.Program
	if program == "" {
		var err error
		if program, err = Find(); err != nil {
			return nil, err
		}
	}
	mariadb, err := isMariaDB(ctx, program)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(opts.Dir, "latchkey-mysql-")
	if err != nil {
		return nil, fmt.Errorf("localmysql: %w", err)
	}
	// The server compares and reports resolved paths; on some systems the temporary folder is a
	// link.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("localmysql: %w", err)
	}
	w, err := startWatchdog(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("localmysql: %w", err), os.RemoveAll(dir))
	}
	s := &Server{
		program:  program,
		mariadb:  mariadb,
		dir:      dir,
		password: rand.Text(),
		args:     opts.Args,
		watchdog: w,
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// start initializes the data and starts the server for the first time, on a port that it chooses.
func (s *Server) start(ctx context.Context) error {
	if err := s.initialize(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for attempt := 1; ; attempt++ {
		var err error
		if s.port, err = freePort(); err != nil {
			return fmt.Errorf("localmysql: %w", err)
		}
		if err = s.run(ctx); err == nil {
			return nil
		}
		// Both servers' words; their exit status says only that they did not start.
		taken := strings.Contains(err.Error(), "Bind on TCP/IP port")
		if !taken || attempt == portAttempts {
			return err
		}
	}
}

// run starts the server process on s.port and waits until it answers; on an error no process is
// left. The caller holds s.mu.
func (s *Server) run(ctx context.Context) error {
	// A new log for each start: what a failure shows must be of that start.
	if err := os.Remove(s.errorLog()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("localmysql: %w", err)
	}
	p, err := s.watchdog.start(s.program, s.serverArgs(), nil, nil)
	if err != nil {
		return fmt.Errorf("localmysql: starting %s: %w", s.program, err)
	}
	if err := s.waitReady(ctx, p); err != nil {
		p.kill()
		return fmt.Errorf("localmysql: %s did not start: %w\n%s", s.program, err,
			tail(s.errorLog()))
	}
	s.process = p
	return nil
}

// waitReady returns once p answers queries over TCP.
func (s *Server) waitReady(ctx context.Context, p *process) error {
	cfg := s.config("")
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()

	// Where the port was lost to somebody who accepts and says nothing, the end of p ends the
	// query.
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.exited:
			cancel()
		case <-alive.Done():
		}
	}()
	for {
		var datadir string
		err := db.QueryRowContext(alive, "SELECT @@datadir").Scan(&datadir)
		// Where the port was lost to another server, that one may answer, and ours is about to end.
		if err == nil && filepath.Clean(datadir) == s.datadir() {
			return nil
		}
		select {
		case <-p.exited:
			return p.err
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pollInterval):
		}
	}
}

// DSN is the go-sql-driver/mysql data source name for a database of this server; an empty database
// means none. The account may do everything, CREATE DATABASE included; no database is made in
// advance. Parameters are interpolated by the driver. The DSN contains the server's password, and
// stays the same across Restart.
func (s *Server) DSN(database string) string {
	return s.config(database).FormatDSN()
}

func (s *Server) config(database string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User = "root"
	cfg.Passwd = s.password
	cfg.Net = "tcp"
	cfg.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	cfg.DBName = database
	cfg.InterpolateParams = true
	return cfg
}

// Kill ends the server as a power cut would (SIGKILL) and returns when it is gone. Data and port
// are kept for Restart. A server that is not running is left as it is.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

// Freeze stops the server in the middle of whatever it does (SIGSTOP) and returns when it answers
// nobody: its connections stay, and new ones are opened by the system and hang. A server that is
// not running is left as it is. Kill, Restart and Stop end one that is frozen.
func (s *Server) Freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	if err := s.process.freeze(); err != nil {
		return fmt.Errorf("localmysql: freeze: %w", err)
	}
	// One of its threads gets the signal, and stops the others when it runs.
	for s.greets() {
		select {
		case <-s.process.exited:
			return fmt.Errorf("localmysql: freeze: %w", s.process.err)
		case <-time.After(pollInterval):
		}
	}
	return nil
}

// greets reports whether the server says the first word on a new connection, as MySQL servers do at
// once.
func (s *Server) greets() bool {
	conn, err := net.DialTimeout("tcp", s.config("").Addr, greetingTime)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(greetingTime))
	_, err = conn.Read(make([]byte, 1))
	return err == nil
}

// Thaw has a frozen server go on.
func (s *Server) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	if err := s.process.thaw(); err != nil {
		return fmt.Errorf("localmysql: thaw: %w", err)
	}
	return nil
}

func (s *Server) kill() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Restart kills the server as Kill does, where it runs, and starts it again on the same data and
// port. It returns when the server has recovered and answers, or with the reason why it does not:
// the context's end, a port that was taken meanwhile, or ErrStopped. After an error no server runs,
// and Restart may be called again.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.kill()
	return s.run(ctx)
}

// Stop kills the server and removes its folder; its data is gone. Calls after the first do nothing
// and return nil.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.kill()
	// Files that the watchdog could not remove in its time may be removable by now; only those that
	// stay matter.
	watchdogErr := s.watchdog.close()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("localmysql: stop: %w", errors.Join(watchdogErr, err))
	}
	return nil
}

// freePort is a variable so that a test can lose the race for a port on purpose.
var freePort = func() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
