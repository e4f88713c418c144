// Package cluster holds the tests on several servers at once: a Group Replication with one primary
// behind a Router, one with three primaries, a Galera cluster, and a source with its replica. The
// servers are containers from Debian's packages (.ci/cluster-images), and are killed, frozen and
// parted while processes use the library on them. Nothing imports it.
//
//	go test -v ./integration/cluster -run Galera
//
// prints a line of counts for each fault: the exchanges, the refresh tokens that were presented in
// them, those that were detected as reused, the grants that were lost, and the longest time for
// which a caller had no valid token.
//
// Where Docker does not answer, or has none of the images, the first line says so, and those tests
// are not run; REQUIRE_DOCKER=1 forbids that. The tests of Vitess and TiDB need no container, but
// servers that the environment names, by VITESS_DSN, VITESS_SHARDED_DSN and TIDB_DSN; the first lines
// say which are not run. The tests of one engine are in one file. The helpers are in these:
//
//	main_test.go     the engines that there are
//	node_test.go     one server: killed, frozen, parted from the others
//	group_test.go    a Group Replication, and its Router
//	wsrep_test.go    a Galera cluster
//	load_test.go     the processes that ask for tokens meanwhile, and the counts
//	storm_test.go    the storm of cmd/demo, on a cluster
//	race_test.go     the processes that claim one credential at the same moment
package cluster
