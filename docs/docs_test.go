// Package docs_test holds the documents to the code.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var documents = []string{
	"design.md", "engines.md", "faults.md", "operations.md", "providers.md",
	"../CONTRIBUTING.md", "../README.md", "../SECURITY.md",
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each file of package credentials has a line in the map, and each line a file.
func TestMapHasEveryFile(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "design.md"), "## Map of the files")
	table, _, _ = strings.Cut(table, "\n## ")
	files, err := filepath.Glob("../credentials/*.go")
	if err != nil {
		t.Fatal(err)
	}
	exists := make(map[string]bool)
	for _, file := range files {
		name := filepath.Base(file)
		exists[name] = true
		if !strings.HasSuffix(name, "_test.go") && !strings.Contains(table, "\n| `"+name+"` |") {
			t.Errorf("%s is not in the map of design.md", name)
		}
	}
	for _, row := range regexp.MustCompile("\n\\| `([a-z]+\\.go)`").FindAllStringSubmatch(table, -1) {
		if !exists[row[1]] {
			t.Errorf("the map of design.md has %s, which does not exist", row[1])
		}
	}
}

// Each test that a document names exists, and so does each path.
func TestDocumentsNameWhatExists(t *testing.T) {
	declared := make(map[string]bool)
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, match := range declaration.FindAllStringSubmatch(read(t, path), -1) {
			declared[match[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	test := regexp.MustCompile("`(?:-run )?((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	path := regexp.MustCompile("`((?:cmd|credentials|docs|examples|integration|internal|migrations|\\.ci)/[\\w./-]*)`")
	for _, document := range documents {
		text := read(t, document)
		for _, match := range test.FindAllStringSubmatch(text, -1) {
			if !declared[match[1]] {
				t.Errorf("%s names %s, which does not exist", document, match[1])
			}
		}
		for _, match := range path.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", match[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", document, match[1])
			}
		}
	}
}

// The program of the README is a part of the example of package mysql, which the compiler checks,
// line by line.
func TestReadmeProgramIsTheExample(t *testing.T) {
	_, program, _ := strings.Cut(read(t, "../README.md"), "```go\n")
	program, _, _ = strings.Cut(program, "```")
	if program == "" {
		t.Fatal("the README has no program")
	}
	var indented strings.Builder
	for line := range strings.Lines(program) {
		if line != "\n" {
			indented.WriteByte('\t')
		}
		indented.WriteString(line)
	}
	if example := read(t, "../credentials/mysql/example_test.go"); !strings.Contains(example, indented.String()) {
		t.Errorf("the example of package mysql does not have the README's program:\n%s", indented.String())
	}
}

// Each metric, figure and line of the log in the table of alerts is one that there is.
func TestAlertsNameWhatExists(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "operations.md"), "\n## Alerts\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var source strings.Builder
	err := filepath.WalkDir("../credentials", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			source.WriteString(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Texts that go on in the next line of the source are joined.
	text := regexp.MustCompile(`" \+\n\s*"`).ReplaceAllString(source.String(), "")
	named := 0
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(table, -1) {
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			name := match[1]
			switch kind, field, _ := strings.Cut(name, "."); kind {
			case "Stats", "KeeperStats":
				name = "\n\t" + field + " "
			}
			name = strings.TrimPrefix(name, "exchange ") // the outcome is appended
			if named++; !strings.Contains(text, name) {
				t.Errorf("operations.md has the signal %q, which does not exist", match[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("the table of alerts has %d signals only", named)
	}
}
