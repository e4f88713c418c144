package mysql

import (
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
		{"8.0.11-TiDB-v8.5.0", ""},
		{"5.7.44-log", "MySQL 5.7.44-log; at least 8.0"},
		{"10.5.29-MariaDB", "MariaDB 10.5.29-MariaDB; at least 10.6"},
		{"5.5.5-10.5.8-MariaDB", "MariaDB"},
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
