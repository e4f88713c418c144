package localmysql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

func (s *Server) datadir() string  { return filepath.Join(s.dir, "data") }
func (s *Server) errorLog() string { return filepath.Join(s.dir, "error.log") }
func (s *Server) initSQL() string  { return filepath.Join(s.dir, "init.sql") }
func (s *Server) tmpdir() string   { return filepath.Join(s.dir, "tmp") }

// initialize makes an empty server's data.
func (s *Server) initialize(ctx context.Context) error {
	if err := os.Mkdir(s.tmpdir(), 0o700); err != nil {
		return fmt.Errorf("localmysql: %w", err)
	}
	// Without a password, any user of this machine could act as the server's user, who may be root.
	// The server runs the file at every start, before it accepts a connection.
	account := "SET SESSION sql_log_bin = 0;\nALTER USER 'root'@'localhost' IDENTIFIED BY '" +
		s.password + "';\n"
	if err := os.WriteFile(s.initSQL(), []byte(account), 0o600); err != nil {
		return fmt.Errorf("localmysql: %w", err)
	}

	args := append(s.commonArgs(), "--initialize-insecure", "--innodb-redo-log-capacity=32M")
	var sql *os.File
	if s.mariadb {
		var err error
		if sql, err = s.systemTables(ctx); err != nil {
			return fmt.Errorf("localmysql: %w", err)
		}
		defer func() { _ = sql.Close() }()
		args = append(s.commonArgs(), "--bootstrap", "--innodb-log-file-size=32M",
			// As mariadb-install-db has it for these statements.
			"--max-allowed-packet=8M", "--enforce-storage-engine=", "--log-warnings=0")
	}
	output, err := os.Create(filepath.Join(s.dir, "initialize.log"))
	if err != nil {
		return fmt.Errorf("localmysql: %w", err)
	}
	defer func() { _ = output.Close() }()
	p, err := s.watchdog.start(s.program, args, sql, output)
	if err != nil {
		return fmt.Errorf("localmysql: starting %s: %w", s.program, err)
	}
	select {
	case <-p.exited:
		err = p.err
		if p.success() {
			return nil
		}
	case <-ctx.Done():
		p.kill()
		err = ctx.Err()
	}
	return fmt.Errorf("localmysql: %s did not initialize the data: %w\n%s", s.program, err,
		tail(output.Name()))
}

// systemTables returns what MariaDB's --bootstrap reads to make its system tables, as
// mariadb-install-db would feed it. The script itself will not do: Debian's server package lacks a
// program it calls, and run as root it changes the owner of folders in /usr.
func (s *Server) systemTables(ctx context.Context) (*os.File, error) {
	if err := os.Mkdir(s.datadir(), 0o700); err != nil {
		return nil, err
	}
	help, err := exec.CommandContext(ctx, s.program, "--no-defaults", "--verbose",
		"--help").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --help: %w", s.program, err)
	}
	charsets := charsetsDir.FindSubmatch(help)
	if charsets == nil {
		return nil, fmt.Errorf("%s --help does not tell its character-sets-dir", s.program)
	}
	share := filepath.Dir(filepath.Clean(string(charsets[1])))

	// The only account is root@localhost then, and not three more roots without a password.
	script := []byte("CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = 'root';\n")
	for _, name := range []string{"system_tables", "performance_tables", "system_tables_data"} {
		text, err := os.ReadFile(filepath.Join(share, "mariadb_"+name+".sql"))
		if errors.Is(err, os.ErrNotExist) { // the name before MariaDB 11
			text, err = os.ReadFile(filepath.Join(share, "mysql_"+name+".sql"))
		}
		if err != nil {
			return nil, err
		}
		script = append(script, text...)
	}
	file := filepath.Join(s.dir, "system.sql")
	if err := os.WriteFile(file, script, 0o600); err != nil {
		return nil, err
	}
	return os.Open(file)
}

var charsetsDir = regexp.MustCompile(`(?m)^character-sets-dir\s+(\S.*)$`)

// commonArgs are what initialization and start have in common. --no-defaults must be the first: the
// machine's own configuration is for another server.
func (s *Server) commonArgs() []string {
	args := []string{
		"--no-defaults",
		"--datadir=" + s.datadir(),
		"--tmpdir=" + s.tmpdir(),
		"--innodb-buffer-pool-size=32M",
	}
	if os.Geteuid() == 0 {
		// Without this the server refuses to run as root.
		args = append(args, "--user=root")
	}
	return args
}

func (s *Server) serverArgs() []string {
	args := append(s.commonArgs(),
		"--bind-address=127.0.0.1",
		"--port="+strconv.Itoa(s.port),
		// Relative to the data: an absolute path may be longer than a socket's name can be.
		"--socket=mysql.sock",
		"--pid-file="+filepath.Join(s.dir, "pid"),
		"--log-error="+s.errorLog(),
		"--init-file="+s.initSQL(),
		"--secure-file-priv="+s.tmpdir(),

		"--innodb-flush-log-at-trx-commit=1",
		"--log-bin=binlog",
		"--sync-binlog=1",
		"--server-id=1",

		"--max-connections=500",
		"--table-open-cache=400",
		"--key-buffer-size=1M",
		// loose: the other product's options are skipped.
		"--loose-innodb-redo-log-capacity=32M",
		"--loose-mysqlx=OFF",
	)
	if s.mariadb {
		args = append(args, "--innodb-log-file-size=32M", "--aria-pagecache-buffer-size=1M")
	}
	return append(args, s.args...)
}

// tail returns the last lines of a log, indented, for an error message.
func tail(file string) string {
	const lines = 20
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "\t(it wrote no log)"
	} else if err != nil {
		return "\t(" + err.Error() + ")"
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "\t" + strings.Join(all[max(0, len(all)-lines):], "\n\t")
}
