package mysql

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// all returns the statements for a table, by name.
func (s statements) all() map[string]string {
	all := make(map[string]string)
	fields := reflect.ValueOf(s)
	for i := range fields.NumField() {
		all[fields.Type().Field(i).Name] = fields.Field(i).String()
	}
	return all
}

func TestStatementsNameTheirTable(t *testing.T) {
	for table, quoted := range map[string]string{
		"credentials":  "`credentials`",
		"Acme_tokens":  "`Acme_tokens`",
		"a`b; DROP x#": "`a``b; DROP x#`",
	} {
		for name, sql := range statementsFor(table).all() {
			if got := strings.Count(sql, quoted); got != 1 {
				t.Errorf("%s for table %q names it %d times, want once: %s", name, table, got, sql)
			}
			if table != "credentials" && strings.Contains(sql, "`credentials`") {
				t.Errorf("%s for table %q names the default table: %s", name, table, sql)
			}
		}
	}
}

// assignments returns what an UPDATE sets, in order.
func assignments(t *testing.T, sql string) (columns, values []string) {
	t.Helper()
	_, set, found := strings.Cut(sql, "\nSET ")
	if !found {
		_, set, found = strings.Cut(sql, "ON DUPLICATE KEY UPDATE\n")
	}
	if !found {
		t.Fatalf("no assignments: %s", sql)
	}
	set, _, _ = strings.Cut(set, "\nWHERE ")
	for line := range strings.SplitSeq(set, ",\n") {
		column, value, found := strings.Cut(line, " = ")
		if !found {
			t.Fatalf("no assignment: %q", line)
		}
		columns, values = append(columns, strings.TrimSpace(column)), append(values, value)
	}
	return columns, values
}

var updates = []string{"updateClaim", "updateSave", "updateFail", "updateRelease", "upsertPut"}

// TestUpdatesChangeVersion: whether the server counts found or changed rows (clientFoundRows), the number of rows
// affected must be the same.
func TestUpdatesChangeVersion(t *testing.T) {
	for _, name := range updates {
		columns, values := assignments(t, statementsFor("t").all()[name])
		i := slices.Index(columns, "version")
		if i < 0 || !strings.HasSuffix(values[i], "+ 1") {
			t.Errorf("%s does not move version on: it sets %q", name, columns)
		}
	}
}

// TestAssignmentsReadOldValues: MySQL assigns from left to right and reads what was assigned, MariaDB under
// SIMULTANEOUS_ASSIGNMENT reads what was there. They agree if nothing is read after it was assigned.
func TestAssignmentsReadOldValues(t *testing.T) {
	word := regexp.MustCompile(`:?[a-z_]+`)
	for _, name := range updates {
		columns, values := assignments(t, statementsFor("t").all()[name])
		for i, value := range values {
			for _, read := range word.FindAllString(value, -1) {
				if slices.Contains(columns[:i], read) {
					t.Errorf("%s: %s = %s reads %s, which it has assigned before", name, columns[i], value, read)
				}
			}
		}
	}
}

// TestColumnsMatchTargets: the columns of a SELECT are scanned by position.
func TestColumnsMatchTargets(t *testing.T) {
	list, _, _ := strings.Cut(strings.TrimPrefix(columns, "SELECT "), "\nFROM ")
	for parens := regexp.MustCompile(`\([^()]*\)`); parens.MatchString(list); {
		list = parens.ReplaceAllString(list, "")
	}
	names := strings.Split(list, ",")
	targets := (&row{}).targets()
	if len(names) != len(targets) {
		t.Fatalf("%d columns are selected, %d are scanned", len(names), len(targets))
	}
	fields := reflect.ValueOf(&row{}).Elem()
	seen := make(map[any]bool)
	for i, target := range targets {
		seen[target] = true
		field := strings.ToLower(fields.Type().Field(i).Name)
		words := strings.Fields(strings.NewReplacer("`", "", "_", "").Replace(names[i]))
		if got := words[len(words)-1]; got != field && got != field+"name" {
			t.Errorf("column %d is %q, but is scanned into %s", i, got, field)
		}
	}
	if len(seen) != fields.NumField() {
		t.Errorf("%d of the row's %d fields are scanned", len(seen), fields.NumField())
	}
}
