// Package engine names the server behind a pool, for the first line of a program's output.
package engine

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
)

// settings tell the engines apart that call themselves MySQL or MariaDB. A server lacks those of
// others.
const settings = "SHOW VARIABLES WHERE Variable_name IN ('version_comment', 'wsrep_on', 'aurora_version', " +
	"'group_replication_group_name', 'group_replication_single_primary_mode')"

// Name asks the server for a name such as "MySQL 9.7.4", "MariaDB 10.11.19, Galera" or "TiDB
// 7.5.0". Of a server that knows no settings, the version alone says what it is.
func Name(ctx context.Context, db *sql.DB) (string, error) {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return "", err
	}
	values := make(map[string]string)
	rows, err := db.QueryContext(ctx, settings)
	if err != nil {
		return describe(version, values), nil
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			break
		}
		values[strings.ToLower(name)] = value
	}
	return describe(version, values), nil
}

// number matches a version's.
var number = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*`)

// describe returns the name by the server's version and settings.
func describe(version string, settings map[string]string) string {
	if _, tidb, ok := strings.Cut(version, "-TiDB-v"); ok {
		return named("TiDB", tidb)
	}
	if vitess, _, ok := strings.Cut(version, "-Vitess"); ok {
		return named("MySQL", vitess) + ", Vitess"
	}
	if own, aurora, ok := strings.Cut(version, ".mysql_aurora."); ok {
		return named("MySQL", own) + ", Aurora " + aurora
	}
	comment := settings["version_comment"]
	product := "MySQL"
	switch {
	case strings.Contains(version, "MariaDB"):
		product = "MariaDB"
		// Some proxies and old replication set-ups show MariaDB as if it were a MySQL 5.5.5.
		version = strings.TrimPrefix(version, "5.5.5-")
	case strings.Contains(comment, "Percona"):
		product = "Percona Server"
	}
	name := named(product, version)
	switch {
	case settings["aurora_version"] != "":
		name += ", Aurora " + settings["aurora_version"]
	case settings["wsrep_on"] == "ON":
		name += ", Galera"
	case settings["group_replication_group_name"] == "":
	case settings["group_replication_single_primary_mode"] == "OFF":
		name += ", Group Replication with several primaries"
	default:
		name += ", Group Replication"
	}
	return name
}

// named puts the number at the beginning of the version after the product's name; a version without
// a number is kept.
func named(product, version string) string {
	if n := number.FindString(version); n != "" {
		version = n
	}
	return product + " " + version
}
