package migrations_test

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-go/latchkey/migrations"
)

// bare removes comments and quoted text.
var bare = regexp.MustCompile("(?m)--.*$|'(?:[^']|'')*'|`[^`]*`")

// TestFiles: other tools rely on files that are numbered without a gap and have one DDL statement
// in each direction. MySQL commits each DDL statement by itself, and a file that fails half-way
// could not be repeated.
func TestFiles(t *testing.T) {
	names, err := fs.Glob(migrations.FS, "*")
	if err != nil || len(names) == 0 {
		t.Fatalf("FS has the files %q, error %v", names, err)
	}
	for i, name := range names {
		if want := fmt.Sprintf("%05d_", i+1); !strings.HasPrefix(name, want) || !strings.HasSuffix(name, ".sql") {
			t.Errorf("file %q: want %s….sql", name, want)
		}
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, up := strings.Cut(string(text), "-- +goose Up\n")
		upward, downward, down := strings.Cut(rest, "-- +goose Down\n")
		if !up || !down || strings.TrimSpace(before) != "" {
			t.Errorf("%s: want -- +goose Up first and -- +goose Down", name)
		}
		for direction, sql := range map[string]string{"Up": upward, "Down": downward} {
			sql = strings.TrimSpace(bare.ReplaceAllString(sql, ""))
			command, _, _ := strings.Cut(sql, " ")
			if !strings.HasSuffix(sql, ";") || strings.Count(sql, ";") != 1 {
				t.Errorf("%s, %s: want one statement, got %q", name, direction, sql)
			}
			if command != "CREATE" && command != "ALTER" && command != "DROP" {
				t.Errorf("%s, %s: %s is no DDL", name, direction, command)
			}
		}
	}
}

func TestSchema(t *testing.T) {
	standard, err := migrations.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(standard, "CREATE TABLE IF NOT EXISTS `credentials` (") ||
		strings.Contains(standard, "goose") || strings.Contains(standard, "DROP") {
		t.Errorf("Schema(nil): got\n%s", standard)
	}
	renamed, err := migrations.Schema(&migrations.Options{Table: "Acme_tokens"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(renamed, "`Acme_tokens`", "`credentials`"); got != standard || renamed == standard {
		t.Errorf("Schema for another table: got\n%s", renamed)
	}
	for _, table := range []string{"a b", "a`b", "x;y", "ü", "-", strings.Repeat("x", 51)} {
		if _, err := migrations.Schema(&migrations.Options{Table: table}); err == nil {
			t.Errorf("Schema for the table %q: got no error", table)
		}
	}
}
