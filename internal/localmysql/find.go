package localmysql

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoServer is returned by Find and Start when neither mysqld nor mariadbd is installed.
var ErrNoServer = errors.New("localmysql: neither mysqld nor mariadbd is installed")

// searchDirs are where server programs are kept; an ordinary user's PATH often lacks the sbin
// folders.
var searchDirs = []string{
	"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/bin", "/usr/local/bin", "/usr/local/mysql/bin",
	"/opt/homebrew/bin", "/opt/homebrew/opt/mysql/bin", "/opt/homebrew/opt/mariadb/bin", "/opt/local/bin",
}

// Find returns the path of the server program that Start would run: a mysqld, else a mariadbd,
// first from PATH, then from the folders where packages put them. (Debian's MariaDB installs a
// mysqld too, which is the same program.) The error is ErrNoServer.
func Find() (string, error) {
	for _, name := range []string{"mysqld", "mariadbd"} {
		if path := lookUp(name); path != "" {
			return path, nil
		}
	}
	return "", ErrNoServer
}

func lookUp(name string) string {
	candidates := []string{name}
	for _, dir := range searchDirs {
		candidates = append(candidates, filepath.Join(dir, name))
	}
	for _, candidate := range candidates {
		if path, err := exec.LookPath(candidate); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// isMariaDB asks the program itself, since its name does not tell.
func isMariaDB(ctx context.Context, program string) (bool, error) {
	out, err := exec.CommandContext(ctx, program, "--no-defaults", "--version").CombinedOutput()
	if err != nil {
		return false, fmt.Errorf("localmysql: %s --version: %w\n%s", program, err,
			strings.TrimSpace(string(out)))
	}
	return strings.Contains(string(out), "MariaDB"), nil
}
