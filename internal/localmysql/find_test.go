//go:build unix

package localmysql_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-go/latchkey/internal/localmysql"
)

func TestNoServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Cleanup(localmysql.SetSearchDirs())
	if _, err := localmysql.Start(t.Context(), nil); !errors.Is(err, localmysql.ErrNoServer) {
		t.Errorf("Start: %v, want ErrNoServer", err)
	}
}

func TestFindOutsidePath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", t.TempDir())
	t.Cleanup(localmysql.SetSearchDirs(dir))
	for _, name := range []string{"mariadbd", "mysqld"} { // the one that is added later is preferred
		want := filepath.Join(dir, name)
		if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := localmysql.Find(); got != want || err != nil {
			t.Errorf("Find() = %q, %v, want %q", got, err, want)
		}
	}
}

func TestVersionName(t *testing.T) {
	for version, want := range map[string]string{
		"10.11.19-MariaDB-0+deb12u1-log": "MariaDB 10.11.19",
		"5.5.5-10.6.12-MariaDB":          "MariaDB 10.6.12",
		"9.7.4-2":                        "MySQL 9.7.4",
		"8.0.36":                         "MySQL 8.0.36",
		"8.0.11-TiDB-v7.5.0":             "MySQL 8.0.11",
		"unknown":                        "MySQL unknown",
		"":                               "MySQL ",
	} {
		if got := localmysql.VersionName(version); got != want {
			t.Errorf("VersionName(%q) = %q, want %q", version, got, want)
		}
	}
}
