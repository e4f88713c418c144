package engine

import "testing"

// TestDescribe has versions and settings as servers tell them; those of Aurora, Percona and TiDB
// are as their manuals print them.
func TestDescribe(t *testing.T) {
	type settings = map[string]string
	for _, test := range []struct {
		version  string
		settings settings
		want     string
	}{
		{"10.11.19-MariaDB-0+deb12u1-log", settings{"wsrep_on": "OFF"}, "MariaDB 10.11.19"},
		{"10.11.19-MariaDB-log", settings{"wsrep_on": "ON"}, "MariaDB 10.11.19, Galera"},
		{"5.5.5-10.6.12-MariaDB", nil, "MariaDB 10.6.12"},
		{"9.7.4-2", settings{"version_comment": "(Debian)"}, "MySQL 9.7.4"},
		{"9.7.4", settings{"group_replication_group_name": ""}, "MySQL 9.7.4"},
		{"9.7.4", settings{
			"group_replication_group_name": "a", "group_replication_single_primary_mode": "ON",
		}, "MySQL 9.7.4, Group Replication"},
		{"9.7.4", settings{
			"group_replication_group_name": "a", "group_replication_single_primary_mode": "OFF",
		}, "MySQL 9.7.4, Group Replication with several primaries"},
		{"8.0.36-28", settings{"version_comment": "Percona Server (GPL)"}, "Percona Server 8.0.36"},
		{"8.0.36-28.1", settings{
			"version_comment": "Percona XtraDB Cluster (GPL)", "wsrep_on": "ON",
		}, "Percona Server 8.0.36, Galera"},
		{"8.0.11-TiDB-v7.5.0", nil, "TiDB 7.5.0"},
		{"8.0.40-Vitess", nil, "MySQL 8.0.40, Vitess"},
		{"8.0.mysql_aurora.3.04.0", nil, "MySQL 8.0, Aurora 3.04.0"},
		{"8.0.32", settings{"aurora_version": "3.06.0"}, "MySQL 8.0.32, Aurora 3.06.0"},
		{"unknown", nil, "MySQL unknown"},
		{"", nil, "MySQL "},
	} {
		if got := describe(test.version, test.settings); got != test.want {
			t.Errorf("describe(%q, %v): got %q, want %q", test.version, test.settings, got, test.want)
		}
	}
}
