package mysql

import (
	"database/sql"
	"strings"
	"testing"
)

func TestSupported(t *testing.T) {
	for _, test := range []struct {
		version string
		want    string // part of the error; empty: none
	}{
		{"9.7.4", ""},
		{"8.0.11", ""},
		{"8.4.6-commercial", ""},
		{"10.6.0-MariaDB", ""},
		{"10.11.19-MariaDB-0+deb12u1-log", ""},
		{"11.8.2-MariaDB", ""},
		{"5.5.5-10.11.6-MariaDB", ""},
		{"8.0.11-TiDB-v8.5.0", ""},
		{"8.0.11-TiDB-v7.4.0-serverless", ""},
		{"5.7.25-TiDB-v6.5.3", "TiDB 6.5.3; at least 7.4"},
		{"5.7.44-log", "MySQL 5.7.44-log; at least 8.0"},
		{"10.5.29-MariaDB", "MariaDB 10.5.29-MariaDB; at least 10.6"},
		{"5.5.5-10.5.8-MariaDB", "MariaDB 10.5.8-MariaDB; at least 10.6"},
		{"", "calls itself"},
		{"five", "calls itself"},
	} {
		err := supported(test.version)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: got error %v, want none", test.version, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got error %v, want one with %q", test.version, err, test.want)
		}
	}
}

func TestNewStore(t *testing.T) {
	if _, err := NewStore(nil, nil); err == nil {
		t.Error("without a pool: got no error")
	}
}

func TestTableNames(t *testing.T) {
	db, err := sql.Open("mysql", "/")
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"":                      true,
		"Acme_tokens":           true,
		"acme tokens":           true,
		"acme-tokens.2":         true,
		"a`b":                   true,
		"jetons_d'accès":        true,
		"a:b":                   false,
		"::":                    false,
		"tokens?":               false,
		"a\x00b":                false,
		strings.Repeat("a", 64): true,
		strings.Repeat("a", 65): false,
	} {
		if _, err := NewStore(db, &Options{Table: name}); (err == nil) != ok {
			t.Errorf("table %q: got error %v, want it accepted: %v", name, err, ok)
		}
		if _, err := NewStore(db, &Options{Database: name}); (err == nil) != ok {
			t.Errorf("database %q: got error %v, want it accepted: %v", name, err, ok)
		}
	}
}

func TestTakesWrites(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        string // part of the error; empty: none
	}{
		{"read_only", "OFF", ""},
		{"read_only", "0", ""},
		{"read_only", "ON", "read_only = ON"},
		{"read_only", "NO_LOCK_NO_ADMIN", "read_only = NO_LOCK_NO_ADMIN"}, // MariaDB 12
		{"super_read_only", "ON", "super_read_only = ON"},
		{"innodb_read_only", "ON", "innodb_read_only = ON"},
		{"transaction_read_only", "ON", "switch it off"},
		{"tx_read_only", "1", "switch it off"},
		{"", "", ""},
	} {
		err := takesWrites(map[string]string{test.name: test.value})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s = %s: got error %v, want none", test.name, test.value, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s = %s: got error %v, want one with %q", test.name, test.value, err, test.want)
		}
	}
}
