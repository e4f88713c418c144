package migrations

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A call is tried up to maxTries times, with a random pause of at most maxPause after each.
const (
	maxTries = 10
	maxPause = 200 * time.Millisecond
)

// repeat calls f again where its statement has lost to another node's DDL: a node of a Galera
// cluster ends any statement on the tables that another node is about to change, reads of
// information_schema included, and says that it met a deadlock (1213). Nothing of the statement has
// taken effect. The statements before it may be repeated, for other nodes may make them, too.
// https://galeracluster.com/library/documentation/schema-upgrades.html
func repeat[T any](ctx context.Context, f func(context.Context) (T, error)) (result T, err error) {
	for range maxTries {
		result, err = f(ctx)
		var server *mysql.MySQLError
		if !errors.As(err, &server) || server.Number != 1213 {
			break
		}
		select {
		case <-time.After(rand.N(maxPause)):
		case <-ctx.Done():
			return result, err
		}
	}
	return result, err
}
