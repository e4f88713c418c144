// Package integration holds the tests that need a server: the store's contract and the main job on
// a real MySQL, with real processes and a real token endpoint. Nothing imports it.
//
// The server is a container of $MYSQL_IMAGE (mysql:9.7), which is gone when the tests are. Where
// Docker does not answer or has no such image, it is a private server from a mysqld or mariadbd on
// this machine; REQUIRE_DOCKER=1 forbids that. $TEST_MYSQL_DSN names a server instead: its user
// must be allowed to create databases, in which alone the tests work. Beside a container, most
// tests run on a private MariaDB too, if one is installed. The first lines of the output say which
// servers were chosen; go test shows them with -v, in this folder, and when a test fails.
//
// The tests of one subject are in one file. The helpers are in these:
//
//	main_test.go, docker_test.go    the servers that the tests share
//	server_test.go, helpers_test.go databases, pools, rows; stores, waiting, errors
//	private_test.go, pair_test.go
//	                                servers of one's own: killed, silenced; a primary and a standby
//	wire_test.go                    the network to a server: statements held, changed and lost
//	stage_test.go                   a table, a token endpoint that can be held, and managers
//	role_test.go                    processes in roles; service_test.go, asker_test.go and
//	                                renewer_test.go have one role each
package integration
