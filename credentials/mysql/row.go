package mysql

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// row is a row as `columns` selects it; durations in microseconds, NULL as the columns say.
type row struct {
	ID               uint64
	Service          string
	Account          string
	ReadAt           int64
	Token            []byte
	RefreshToken     []byte
	Extra            []byte
	Version          uint64
	TokenVersion     uint64
	ExpiresIn        sql.NullInt64
	RefreshExpiresIn sql.NullInt64
	DueIn            sql.NullInt64
	LeaseID          string
	LeaseVersion     uint64
	LeaseHolder      string
	LeaseAge         int64
	LeaseEndsIn      int64
	InterruptedBy    string
	InterruptedAgo   sql.NullInt64
	Failures         int
	FailureClass     string
	FailureCode      string
	FailureReason    string
	FailedBy         string
	FailedAgo        sql.NullInt64
	RetryIn          sql.NullInt64
	RefreshedBy      string
	RefreshedAgo     sql.NullInt64
	RefreshMicros    int64
}

// targets are the fields in the order of `columns`. By position and not by name, since names depend on the host's DSN
// (columnsWithAlias).
func (r *row) targets() []any {
	return []any{
		&r.ID,
		&r.Service,
		&r.Account,
		&r.ReadAt,
		&r.Token,
		&r.RefreshToken,
		&r.Extra,
		&r.Version,
		&r.TokenVersion,
		&r.ExpiresIn,
		&r.RefreshExpiresIn,
		&r.DueIn,
		&r.LeaseID,
		&r.LeaseVersion,
		&r.LeaseHolder,
		&r.LeaseAge,
		&r.LeaseEndsIn,
		&r.InterruptedBy,
		&r.InterruptedAgo,
		&r.Failures,
		&r.FailureClass,
		&r.FailureCode,
		&r.FailureReason,
		&r.FailedBy,
		&r.FailedAgo,
		&r.RetryIn,
		&r.RefreshedBy,
		&r.RefreshedAgo,
		&r.RefreshMicros,
	}
}

// has reports whether the row holds the grant's tokens.
func (r row) has(g credentials.Grant) bool {
	return r.ID != 0 && string(r.Token) == g.Token.Reveal() && string(r.RefreshToken) == g.RefreshToken.Reveal()
}

func (r row) credential() (credentials.Credential, error) {
	c := credentials.Credential{
		Key:              credentials.Key{Service: r.Service, Account: r.Account},
		ReadAt:           credentials.Instant(duration(r.ReadAt)),
		Row:              r.ID,
		Version:          r.Version,
		TokenVersion:     r.TokenVersion,
		Token:            credentials.NewSecret(string(r.Token)),
		RefreshToken:     credentials.NewSecret(string(r.RefreshToken)),
		ExpiresIn:        orNever(r.ExpiresIn),
		RefreshExpiresIn: orNever(r.RefreshExpiresIn),
		DueIn:            orNever(r.DueIn),
		Interrupted:      credentials.Interruption{By: r.InterruptedBy, Ago: duration(r.InterruptedAgo.Int64)},
		Failure: credentials.Failure{
			Class:   credentials.Class(r.FailureClass),
			Code:    r.FailureCode,
			Reason:  r.FailureReason,
			RetryIn: duration(r.RetryIn.Int64),
			Count:   r.Failures,
			By:      r.FailedBy,
			Ago:     duration(r.FailedAgo.Int64),
		},
		Refreshed: credentials.Refreshed{
			By:   r.RefreshedBy,
			Ago:  duration(r.RefreshedAgo.Int64),
			Took: duration(r.RefreshMicros),
		},
	}
	if r.LeaseID != "" {
		c.Lease = credentials.Lease{
			ID: r.LeaseID, Holder: r.LeaseHolder, Version: r.LeaseVersion,
			Age: duration(r.LeaseAge), EndsIn: duration(r.LeaseEndsIn),
		}
	}
	var extra map[string]string
	if err := json.Unmarshal(r.Extra, &extra); err != nil {
		// The text of a JSON error may quote what it read.
		return c, fmt.Errorf("column extra of %s (id %d) is not a JSON object of strings", c.Key, r.ID)
	}
	if len(extra) > 0 {
		c.Extra = make(map[string]credentials.Secret, len(extra))
		for name, value := range extra {
			c.Extra[name] = credentials.NewSecret(value)
		}
	}
	return c, nil
}

// grantArgs are the bind variables that a grant fills, in a save and in a put.
func grantArgs(g credentials.Grant, lifetime, refreshLifetime, dueIn time.Duration) (map[string]any, error) {
	extra := make(map[string]string, len(g.Extra))
	for name, value := range g.Extra {
		extra[name] = value.Reveal()
	}
	encoded, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		// Bytes, not strings, so that the connection's character set is not applied to them.
		"token":            []byte(g.Token.Reveal()),
		"refresh_token":    []byte(g.RefreshToken.Reveal()),
		"extra":            encoded,
		"lifetime":         micros(lifetime),
		"refresh_lifetime": micros(refreshLifetime),
		"due_in":           micros(dueIn),
	}, nil
}

// duration converts microseconds, which reach further than Go's nanoseconds do.
func duration(micros int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Microsecond)
	return time.Duration(max(-most, min(most, micros))) * time.Microsecond
}

func orNever(micros sql.NullInt64) time.Duration {
	if !micros.Valid {
		return credentials.Never
	}
	return duration(micros.Int64)
}

// micros is a duration as a bind variable: whole microseconds, rounded down, NULL for Never. NULL makes the whole
// expression UTC_TIMESTAMP(6) + INTERVAL NULL MICROSECOND be NULL.
func micros(d time.Duration) any {
	if d == credentials.Never {
		return nil
	}
	return d.Microseconds()
}
