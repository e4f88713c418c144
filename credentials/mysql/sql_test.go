package mysql

import (
	"database/sql"
	"maps"
	"os"
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
		all[fields.Type().Field(i).Name] = fields.Field(i).FieldByName("text").String()
	}
	return all
}

func TestStatementsNameTheirTable(t *testing.T) {
	for table, quoted := range map[string]string{
		"credentials":  "`credentials`",
		"Acme_tokens":  "`Acme_tokens`",
		"a`b; DROP x#": "`a``b; DROP x#`",
	} {
		for name, text := range statementsFor("", table).all() {
			if got := strings.Count(text, quoted); got != 1 {
				t.Errorf("%s for table %q names it %d times, want once: %s", name, table, got, text)
			}
			if table != "credentials" && strings.Contains(text, "`credentials`") {
				t.Errorf("%s for table %q names the default table: %s", name, table, text)
			}
		}
	}
}

// assignments returns the columns that an UPDATE sets and their values, in order.
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
	set = strings.TrimSuffix(set, "\n") // where the condition is appended
	for line := range strings.SplitSeq(set, ",\n") {
		column, value, found := strings.Cut(line, " = ")
		if !found {
			t.Fatalf("no assignment: %q", line)
		}
		columns, values = append(columns, strings.TrimSpace(column)), append(values, value)
	}
	return columns, values
}

var updates = []string{
	"updateClaim", "updateSave", "updateFail", "updateRelease", "upsertPut",
	"updateDisable", "updateEnable", "updateEndLease", "updateReviveOne", "updateImported",
}

// TestUpdatesChangeVersion: whether the server counts found or changed rows (clientFoundRows), the
// number of rows affected must be the same.
func TestUpdatesChangeVersion(t *testing.T) {
	for _, name := range updates {
		columns, values := assignments(t, statementsFor("", "t").all()[name])
		i := slices.Index(columns, "version")
		if i < 0 || !strings.HasSuffix(values[i], "+ 1") {
			t.Errorf("%s does not move version on: it sets %q", name, columns)
		}
	}
}

// TestAssignmentsReadOldValues: MySQL assigns from left to right and reads the assigned values,
// while MariaDB under SIMULTANEOUS_ASSIGNMENT reads the old ones. Both mean the same if no column
// is read after it was assigned.
func TestAssignmentsReadOldValues(t *testing.T) {
	word := regexp.MustCompile(`:?[a-z_]+`)
	for _, name := range updates {
		columns, values := assignments(t, statementsFor("", "t").all()[name])
		for i, value := range values {
			for _, read := range word.FindAllString(value, -1) {
				if slices.Contains(columns[:i], read) {
					t.Errorf("%s: %s = %s reads %s, which it has assigned before", name, columns[i], value, read)
				}
			}
		}
	}
}

// TestRowColumns holds the columns of row against those that the migration makes: a read selects
// every column but the one for people, and only one that may be NULL is scanned into a field that
// takes NULL.
func TestRowColumns(t *testing.T) {
	migration, err := os.ReadFile("../../migrations/00001_credentials.sql")
	if err != nil {
		t.Fatal(err)
	}
	unread := map[string]bool{"created_at": true} // by column name; the value: NOT NULL
	columns := regexp.MustCompile("(?m)^    `([a-z_]+)` +[A-Z].*?(NOT )?NULL")
	for _, match := range columns.FindAllStringSubmatch(string(migration), -1) {
		if _, forPeople := unread[match[1]]; forPeople {
			delete(unread, match[1])
			continue
		}
		unread[match[1]] = match[2] != ""
	}
	if len(unread) < 20 {
		t.Fatalf("the migration has the columns %v", unread)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[row]()) {
		key, column, ok := strings.Cut(string(field.Tag), ":")
		column = strings.Trim(column, `"`)
		switch notNull, made := unread[column]; {
		case !ok || expressions[key] == "":
			t.Errorf("the tag of %s is %q, which no expression is for", field.Name, field.Tag)
		case key == "now":
		case !made:
			t.Errorf("%s is the column %q, which another field is, or the migration does not make",
				field.Name, column)
		case notNull == (field.Type == reflect.TypeFor[sql.NullInt64]()):
			t.Errorf("%s has the type %v, and the column %s may be NULL: %v",
				field.Name, field.Type, column, !notNull)
		}
		delete(unread, column)
	}
	if len(unread) > 0 {
		t.Errorf("no field is for the columns %v", slices.Sorted(maps.Keys(unread)))
	}
}

// TestSelectRow: the SELECT list has the order of the fields, and no alias is a column's name.
func TestSelectRow(t *testing.T) {
	const begins = "SELECT `id`,\n       `service_name`,\n       CAST(`account_name` AS BINARY) AS account_name_bytes,\n" +
		"       TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS read_at,\n       `access_token`,"
	if !strings.HasPrefix(selectRow, begins) {
		t.Errorf("got %s, want it to begin with %s", selectRow, begins)
	}
	list, _, _ := strings.Cut(strings.TrimPrefix(selectRow, "SELECT "), "\nFROM ")
	if got, want := len(strings.Split(list, ",\n")), len((&row{}).targets()); got != want {
		t.Errorf("%d columns are selected, %d are scanned", got, want)
	}
	aliases := regexp.MustCompile(`AS ([a-z_]+)(,|\n)`)
	for _, alias := range aliases.FindAllStringSubmatch(selectRow, -1) {
		if strings.Contains(selectRow, "`"+alias[1]+"`") {
			t.Errorf("the alias %s is a column's name, by which ORDER BY would sort", alias[1])
		}
	}
}
