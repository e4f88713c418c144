package main

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/urfave/cli/v3"

	"github.com/latchkey-go/latchkey/internal/engine"
	"github.com/latchkey-go/latchkey/internal/localmysql"
)

const (
	composePort = "33306"

	// composeWait bounds the wait for a container that was just started. MySQL's first start takes
	// some 10 s.
	composeWait = 60 * time.Second

	connectTimeout = 10 * time.Second
)

// noServer is the remedy where there is no server.
const noServer = "run `docker-compose up -d` here, or name one with --dsn or $MYSQL_DSN " +
	"(user:password@tcp(host:3306)/database)"

// server is the MySQL server in use.
type server struct {
	db      *sql.DB
	dsn     string
	label   string             // "MySQL 9.7.4 (docker)"
	private *localmysql.Server // ends with this command; nil for another's server
}

// Close closes the pool and ends the server, if it is a private one.
func (s *server) Close() error {
	_ = s.db.Close() // fails where idle connections are dead, since the server was restarted: no loss
	if s.private != nil {
		return s.private.Stop()
	}
	return nil
}

// privateServer says whether a command has any use for a server that ends with it.
type privateServer bool

const (
	orPrivate privateServer = true
	noPrivate privateServer = false
)

// withServer calls do with the server that findServer finds, a private one excluded.
func withServer(ctx context.Context, cmd *cli.Command, do func(*server) error) (err error) {
	s, err := findServer(ctx, cmd, noPrivate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return do(s)
}

// findServer connects to the server that the command line, the environment and the machine suggest,
// and names it on stderr.
func findServer(ctx context.Context, cmd *cli.Command, private privateServer) (*server, error) {
	s, err := chooseServer(ctx, cmd, private)
	if err != nil {
		return nil, err
	}
	note(cmd, "server: %s", s.label)
	return s, nil
}

func chooseServer(ctx context.Context, cmd *cli.Command, private privateServer) (*server, error) {
	// An empty DSN comes from a variable that is not set: any other server would be the wrong one.
	if cmd.IsSet("dsn") && cmd.String("dsn") == "" {
		return nil, usagef(cmd, "--dsn is empty; leave it out for $MYSQL_DSN or docker-compose's server")
	}
	if dsn := cmp.Or(cmd.String("dsn"), os.Getenv("MYSQL_DSN")); dsn != "" {
		return connect(ctx, dsn, "dsn")
	}
	s, err := composeServer(ctx, cmd)
	if s != nil || err != nil {
		return s, err
	}
	if private == noPrivate {
		return nil, errors.New("no server: nothing answers at " + composeAddr() +
			" and none is named; " + noServer + ". (A private server would be gone with this command, " +
			"and all that it stores; only storm starts one)")
	}
	return startPrivate(ctx, cmd)
}

// connect opens the server that dsn names. Errors say which part of the DSN is wrong and why, and
// never quote the password.
func connect(ctx context.Context, dsn, where string) (*server, error) {
	cfg, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg, dsn, where)
	if err != nil {
		return nil, explain(err, cfg)
	}
	return s, nil
}

// parseDSN reads a DSN. Its errors quote nothing of it.
func parseDSN(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		// The driver's error may quote the password, so it is left out.
		return nil, errors.New("the DSN cannot be read; it looks like " +
			"user:password@tcp(host:3306)/database (no scheme, the address in parentheses)")
	}
	if cfg.DBName == "" {
		return nil, errors.New("the DSN names no database; put one behind the slash: " +
			"user:password@tcp(host:3306)/database")
	}
	return cfg, nil
}

// open connects once.
func open(ctx context.Context, cfg *mysql.Config, dsn, where string) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	name, err := engine.Name(ctx, db)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	label := fmt.Sprintf("%s (%s)", name, where)
	return &server{db: db, dsn: dsn, label: label}, nil
}

// explain turns the error of a failed connection into its cause and its remedy.
func explain(err error, cfg *mysql.Config) error {
	var refused *mysql.MySQLError
	var network *net.OpError
	switch {
	case errors.As(err, &refused) && refused.Number == 1045: // ER_ACCESS_DENIED_ERROR
		return fmt.Errorf("the server at %s does not let user %q in: check user and password in the DSN",
			cfg.Addr, cfg.User)
	case errors.As(err, &refused) && (refused.Number == 1044 || refused.Number == 1049):
		// ER_DBACCESS_DENIED_ERROR, ER_BAD_DB_ERROR
		return fmt.Errorf("user %q has no database %q at %s: "+
			"create it (CREATE DATABASE `%s`) or name another in the DSN",
			cfg.User, cfg.DBName, cfg.Addr, cfg.DBName)
	case errors.As(err, &refused) && refused.Number == 1040: // ER_CON_COUNT_ERROR
		return fmt.Errorf("the server at %s has no connection left: raise its max_connections or wait",
			cfg.Addr)
	case errors.As(err, &network):
		return fmt.Errorf("no server answers at %s (%w): "+
			"check host and port in the DSN, and that the server runs", cfg.Addr, network.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the server at %s did not answer within %v: check host and port in the DSN",
			cfg.Addr, connectTimeout)
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, io.EOF):
		return fmt.Errorf("the program at %s does not speak MySQL, or is not ready: "+
			"check host and port in the DSN (%w)", cfg.Addr, err)
	}
	return fmt.Errorf("connect to %s: %w", cfg.Addr, err)
}

// composeAddr is where docker-compose.yml publishes its server.
func composeAddr() string {
	return net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("LATCHKEY_MYSQL_PORT"), composePort))
}

// composeServer connects to the server of docker-compose.yml. Where no program listens there, it
// returns nil. Where one does but the server is not ready, it waits: docker's proxy accepts
// connections before the server does.
func composeServer(ctx context.Context, cmd *cli.Command) (*server, error) {
	addr := composeAddr()
	var dialer net.Dialer
	dialing, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := dialer.DialContext(dialing, "tcp", addr)
	if err != nil {
		return nil, context.Cause(ctx)
	}
	_ = conn.Close()

	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = "latchkey", "latchkey", "latchkey"
	cfg.Net, cfg.Addr = "tcp", addr
	cfg.InterpolateParams = true
	waiting, cancel := context.WithTimeout(ctx, composeWait)
	defer cancel()
	for said := false; ; said = true {
		s, err := open(waiting, cfg, cfg.FormatDSN(), "docker")
		if err == nil {
			return s, nil
		}
		refused := (*mysql.MySQLError)(nil)
		if errors.As(err, &refused) && refused.Number != 1053 { // ER_SERVER_SHUTDOWN
			return nil, fmt.Errorf("the server at %s is not the server of docker-compose.yml (%w); "+
				"name your server with --dsn or $MYSQL_DSN", addr, err)
		}
		if !said {
			note(cmd, "waiting for the server at %s, which accepts connections but is not ready "+
				"(at most %v)", addr, composeWait)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-waiting.Done():
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, fmt.Errorf("the server at %s was not ready within %v (%w); "+
				"see `docker-compose logs`, or name another with --dsn or $MYSQL_DSN", addr, composeWait, err)
		}
	}
}

// startPrivate starts a server that lasts as long as this command.
func startPrivate(ctx context.Context, cmd *cli.Command) (_ *server, err error) {
	program, err := localmysql.Find()
	if err != nil {
		return nil, errors.New("no server: nothing answers at " + composeAddr() + ", none is named, " +
			"and neither mysqld nor mariadbd is installed here " +
			"(Debian, Ubuntu: apt-get install mariadb-server-core); " + noServer)
	}
	note(cmd, "starting a private server from %s, which ends with this command", program)
	private, err := localmysql.Start(ctx, &localmysql.Options{Program: program})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, private.Stop())
		}
	}()
	if err := createDatabase(ctx, private.DSN(""), "latchkey"); err != nil {
		return nil, fmt.Errorf("create a database on the private server: %w", err)
	}
	s, err := connect(ctx, private.DSN("latchkey"), "private")
	if err != nil {
		return nil, err
	}
	s.private = private
	return s, nil
}

func createDatabase(ctx context.Context, dsn, name string) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, "CREATE DATABASE `"+name+"`")
	return err
}
