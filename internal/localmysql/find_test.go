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
