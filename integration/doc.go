// Package integration holds the tests that need a server: the store's contract and the main job on a real MySQL, with
// real processes and a real token endpoint. Nothing imports it.
//
// The server is a container of $MYSQL_IMAGE (mysql:9.7), which is gone when the tests are. Where Docker does not answer
// or has no such image, it is a private server from a mysqld or mariadbd on this machine; REQUIRE_DOCKER=1 forbids that.
// $TEST_MYSQL_DSN names a server instead: its user must be allowed to create databases, in which alone the tests work.
// Beside a container, most tests run on a private MariaDB too, if one is installed. The first lines of the output say
// which servers were chosen; go test shows them with -v, in this folder, and when a test fails.
package integration
