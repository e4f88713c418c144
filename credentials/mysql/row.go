package mysql

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
)

// row is a row of the table as every read selects it. Each field's tag is its column: the SELECT
// list and the targets of a scan are made from the tags. NULL stands for Never.
//
//   - column: the value itself.
//   - bytes: a text, byte by byte, whatever the connection's character set is.
//   - until: the time until that moment, in microseconds from the statement's start.
//   - since: the time since that moment, likewise.
//   - now: the statement's start, in microseconds since that moment.
//
// Where a statement waited for a row lock, its start lies in the past, and so does the caller's
// anchor: nothing is taken for fresher than it is.
type row struct {
	ID               uint64        `column:"id"`
	Service          string        `column:"service_name"`
	Account          string        `bytes:"account_name"`
	ReadAt           int64         `now:"1970-01-01"`
	AccessToken      []byte        `column:"access_token"`
	RefreshToken     []byte        `column:"refresh_token"`
	Extra            []byte        `column:"extra"`
	Deployment       string        `column:"deployment"`
	Version          uint64        `column:"version"`
	TokenVersion     uint64        `column:"token_version"`
	ExpiresIn        sql.NullInt64 `until:"expiration"`
	RefreshExpiresIn sql.NullInt64 `until:"refresh_expiration"`
	DueIn            sql.NullInt64 `until:"due_at"`
	LeaseID          string        `column:"lease_id"`
	LeaseVersion     uint64        `column:"lease_version"`
	LeaseHolder      string        `column:"lease_holder"`
	LeaseAge         int64         `since:"lease_start"`
	LeaseEndsIn      int64         `until:"lease_end"`
	InterruptedBy    string        `column:"interrupted_by"`
	InterruptedAgo   sql.NullInt64 `since:"interrupted_at"`
	SurvivedBy       string        `column:"survived_by"`
	SurvivedAgo      sql.NullInt64 `since:"survived_at"`
	Failures         int           `column:"failures"`
	Refusals         int           `column:"refusals"`
	RefusedFor       sql.NullInt64 `since:"refused_at"`
	FailureClass     string        `column:"failure_class"`
	FailureCode      string        `column:"failure_code"`
	FailureReason    string        `column:"failure_reason"`
	FailedBy         string        `column:"failed_by"`
	FailedAgo        sql.NullInt64 `since:"failed_at"`
	RetryIn          sql.NullInt64 `until:"retry_at"`
	DisabledBy       string        `column:"disabled_by"`
	DisabledAgo      sql.NullInt64 `since:"disabled_at"`
	RefreshedBy      string        `column:"refreshed_by"`
	RefreshedAgo     sql.NullInt64 `since:"refreshed_at"`
	RefreshMicros    int64         `column:"refresh_micros"`
}

// expressions select a column, by the key of its field's tag. An alias is none of the table's
// columns, by which ORDER BY would otherwise sort.
var expressions = map[string]string{
	"column": "`%s`",
	"bytes":  "CAST(`%[1]s` AS BINARY) AS %[1]s_bytes",
	"until":  "TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), `%[1]s`) AS until_%[1]s",
	"since":  "TIMESTAMPDIFF(MICROSECOND, `%[1]s`, UTC_TIMESTAMP(6)) AS since_%[1]s",
	"now":    "TIMESTAMPDIFF(MICROSECOND, '%s', UTC_TIMESTAMP(6)) AS read_at",
}

// selectRow selects all columns of a row, in the order of its fields.
var selectRow = func() string {
	var list []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[row]()) {
		for key, expression := range expressions {
			if name, ok := field.Tag.Lookup(key); ok {
				list = append(list, fmt.Sprintf(expression, name))
			}
		}
	}
	return "SELECT " + strings.Join(list, ",\n       ") + "\nFROM `credentials`\n"
}()

// withoutSecrets has a SELECT of all columns read no secret. A text stands for the access token
// where there is one; only a row that is larger than half a page has its token read for that.
var withoutSecrets = strings.NewReplacer(
	"`access_token`", "IF(`access_token` = '', '', 'x')", "`refresh_token`", "''", "`extra`", "'{}'",
)

// targets are the fields in the order of selectRow. A scan goes by position and not by name, since
// names depend on the host's DSN (columnsWithAlias).
func (r *row) targets() []any {
	fields := reflect.ValueOf(r).Elem()
	targets := make([]any, fields.NumField())
	for i := range targets {
		targets[i] = fields.Field(i).Addr().Interface()
	}
	return targets
}

func (r row) key() credentials.Key {
	return credentials.Key{Service: r.Service, Account: r.Account}
}

func (r row) secrets() secrets {
	return secrets{access: r.AccessToken, refresh: r.RefreshToken, extra: r.Extra}
}

// rowName is the id of a row, and its key.
type rowName struct {
	id  uint64
	key credentials.Key
}

// unreadable is a row that has no credential for this process.
type unreadable struct {
	rowName

	err error
}

// readable returns the rows' credentials, and the rows that have none.
func (s *Store) readable(rows []row) (good []credentials.Credential, bad []unreadable) {
	for _, r := range rows {
		c, err := s.credential(r)
		if err != nil {
			bad = append(bad, unreadable{rowName{r.ID, r.key()}, err})
			continue
		}
		good = append(good, c)
	}
	return good, bad
}

// credential returns the row's credential with its secrets opened. After an error, the credential
// has its key alone.
func (s *Store) credential(r row) (credentials.Credential, error) {
	if err := s.owns(r); err != nil {
		return credentials.Credential{Key: r.key()}, err
	}
	plain, err := s.sealer.open(r.key(), r.Deployment, r.secrets())
	if err != nil {
		return credentials.Credential{Key: r.key()}, err
	}
	r.AccessToken, r.RefreshToken, r.Extra = plain.access, plain.refresh, plain.extra
	return r.credential()
}

// owns returns an error if the row is another deployment's. A row without a name is everybody's.
func (s *Store) owns(r row) error {
	if r.Deployment == "" || r.Deployment == s.sealer.deployment {
		return nil
	}
	return fmt.Errorf("%w: %s is of the deployment %q, and Options.Deployment of this process is %q; "+
		"where the table was copied on purpose, adopt it", credentials.ErrOtherDeployment, r.key(),
		r.Deployment, s.sealer.deployment)
}

// unlessHeld returns nil if the row has the grant's tokens, and superseded otherwise: also where
// the row does not open, so that nobody can say whose tokens it has.
func (s *Store) unlessHeld(r row, g credentials.Grant, superseded error) error {
	c, err := s.credential(r)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", superseded, err)
	case c.AccessToken.Equal(g.AccessToken) && c.RefreshToken.Equal(g.RefreshToken):
		return nil
	}
	return superseded
}

// credential returns the row's credential, given a row whose secrets are plain or were not read.
func (r row) credential() (credentials.Credential, error) {
	c := credentials.Credential{
		Key:              r.key(),
		ReadAt:           credentials.Instant(duration(r.ReadAt)),
		Row:              r.ID,
		Version:          r.Version,
		TokenVersion:     r.TokenVersion,
		AccessToken:      credentials.NewSecret(string(r.AccessToken)),
		RefreshToken:     credentials.NewSecret(string(r.RefreshToken)),
		ExpiresIn:        orNever(r.ExpiresIn),
		RefreshExpiresIn: orNever(r.RefreshExpiresIn),
		DueIn:            orNever(r.DueIn),
		Interrupted:      credentials.Interruption{By: r.InterruptedBy, Ago: duration(r.InterruptedAgo.Int64)},
		Survived:         credentials.Interruption{By: r.SurvivedBy, Ago: duration(r.SurvivedAgo.Int64)},
		Failure: credentials.Failure{
			Class:   credentials.Class(r.FailureClass),
			Code:    r.FailureCode,
			Reason:  r.FailureReason,
			RetryIn: duration(r.RetryIn.Int64),
			Count:   r.Failures,
			By:      r.FailedBy,
			Ago:     duration(r.FailedAgo.Int64),

			Refusals:   r.Refusals,
			RefusedFor: duration(r.RefusedFor.Int64),
		},
		Refreshed: credentials.Refreshed{
			By:   r.RefreshedBy,
			Ago:  duration(r.RefreshedAgo.Int64),
			Took: duration(r.RefreshMicros),
		},
		Disabled: credentials.Mark{By: r.DisabledBy, Ago: duration(r.DisabledAgo.Int64)},
	}
	if r.LeaseID != "" {
		c.Lease = credentials.Lease{
			ID: r.LeaseID, Holder: r.LeaseHolder, Version: r.LeaseVersion,
			Age: duration(r.LeaseAge), EndsIn: duration(r.LeaseEndsIn),
		}
	}
	var extra map[string]string
	if err := json.Unmarshal(r.Extra, &extra); err != nil {
		// The text of a JSON error may quote the column.
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

// grantArgs are the bind variables that a grant fills, in a save and in a put. The secrets are
// sealed here, before a connection or a lock is held.
func (s *Store) grantArgs(
	key credentials.Key, g credentials.Grant, lifetime, refreshLifetime, dueIn time.Duration,
) (map[string]any, error) {
	extra := make(map[string]string, len(g.Extra))
	for name, value := range g.Extra {
		extra[name] = value.Reveal()
	}
	encoded, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	// Bytes, not strings, so that the connection's character set is not applied to them.
	sealed, err := s.sealer.seal(key, secrets{
		access: []byte(g.AccessToken.Reveal()), refresh: []byte(g.RefreshToken.Reveal()), extra: encoded,
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token":     sealed.access,
		"refresh_token":    sealed.refresh,
		"extra":            sealed.extra,
		"deployment":       s.sealer.deployment,
		"lifetime":         micros(lifetime),
		"refresh_lifetime": micros(refreshLifetime),
		"due_in":           micros(dueIn),
	}, nil
}

// duration converts microseconds, which reach further than Go's nanoseconds do.
func duration(micros int64) time.Duration {
	const limit = math.MaxInt64 / int64(time.Microsecond)
	return time.Duration(max(-limit, min(limit, micros))) * time.Microsecond
}

func orNever(micros sql.NullInt64) time.Duration {
	if !micros.Valid {
		return credentials.Never
	}
	return duration(micros.Int64)
}

// micros is a duration as a bind variable: whole microseconds, rounded down, NULL for Never. NULL
// makes the whole expression UTC_TIMESTAMP(6) + INTERVAL NULL MICROSECOND be NULL.
func micros(d time.Duration) any {
	if d == credentials.Never {
		return nil
	}
	return d.Microseconds()
}
