package mysql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-go/latchkey/credentials"
)

// The statements; those of operators' changes stand in sql_operate.go. Times are written and
// compared by the server's clock alone (UTC_TIMESTAMP(6)); durations go in and come out in
// microseconds. Conditional UPDATEs always change `version` (updateReseal the sealed bytes), so
// that the number of rows affected is the same whether the host counts found or changed rows. No
// assignment reads a column assigned before it, so that a statement means the same under MariaDB's
// SIMULTANEOUS_ASSIGNMENT. The names of bind variables are sqlx's.
//
// Locks are taken in one order, so that the store's transactions do not deadlock: the entry of the
// index service_account, the row, the row's entry in the index due. A locking read by the key takes
// the first two. A write of a row whose id is known takes no more than the row and the last; a
// DELETE takes all three, and so follows upon a locking read by the key. Since a condition on both
// would let the server choose, the index of a read and of an UPDATE is forced. A scan of the index
// due begins with the last lock, and therefore passes over rows that are locked; only lockDead
// waits for them, which finds rows that nobody renews.

// account compares the name byte by byte whatever character set the host's connection declares. The
// name comes in hexadecimal digits: where the connection's set is utf8mb3, MariaDB refuses an emoji
// in a text or in a prepared statement's bytes (error 1300), or makes NULL of it.
const (
	account   = "CONVERT(UNHEX(:account) USING utf8mb4) COLLATE utf8mb4_bin"
	accountOf = "CONVERT(UNHEX(?) USING utf8mb4) COLLATE utf8mb4_bin"
)

// byKey serves from the unique key, so that it reads and locks one row.
const byKey = "WHERE service_name = :service AND account_name = " + account + "\n"

// byRow finds a row by its id, and names the row's key as well, by which a sharded database knows
// the one shard that has the row.
const byRow = "WHERE id = :row AND service_name = :service AND account_name = " + account

// byRows is byRow for many rows. Since the ids alone tell the rows apart, the services and accounts
// need not be held against them one by one.
func byRows(rows []rowName) string {
	var ids, services, accounts []string
	for _, one := range rows {
		ids = append(ids, strconv.FormatUint(one.id, 10))
		services = append(services, literal(one.key.Service))
		accounts = append(accounts, literal(one.key.Account))
	}
	slices.Sort(services)
	services = slices.Compact(services)
	list := func(values []string) string { return "IN (" + strings.Join(values, ", ") + ")" }
	return "WHERE id " + list(ids) + "\n  AND service_name " + list(services) +
		" AND account_name " + list(accounts)
}

// literal is a text of UTF-8 within a statement, whatever the connection's character set is. It
// costs the server less than a bind variable, and nothing in it can end it.
func literal(text string) string { return fmt.Sprintf("_utf8mb4 x'%x'", text) }

// byPrimaryKey has a statement find the rows by their ids.
const byPrimaryKey = "FORCE INDEX (PRIMARY)\n"

// byKeys is byKey for many keys, which are sorted by service: one search of the unique key for
// each. Of the forms that do that on MySQL and MariaDB, this one costs the server least. The index
// is forced, since MySQL would read all rows of a service to find a third of them.
func byKeys(keys []credentials.Key) (condition string, values []any) {
	text := []byte("FORCE INDEX (service_account)\nWHERE ")
	values = make([]any, 0, len(keys)+1)
	for i, key := range keys {
		if i > 0 && key.Service == keys[i-1].Service {
			text = append(text, ", "...)
		} else {
			if i > 0 {
				text = append(text, ") OR "...)
			}
			text = append(text, "service_name = ? AND account_name IN ("...)
			values = append(values, key.Service)
		}
		text = append(text, accountOf...)
		values = append(values, accountArg(key))
	}
	return string(append(text, ')')), values
}

// forUpdate makes contenders queue for the row. Correctness does not rest on the lock: a server
// that grants it twice (several primaries) still lets only one updateClaim through.
const forUpdate = "FOR UPDATE"

// skipLocked has a locking read pass over rows whose locks other transactions hold.
const skipLocked = " SKIP LOCKED"

// noWait has a locking read fail at once where another transaction holds the row's lock.
const noWait = " NOWAIT"

// lockRow asks for the row's lock, so that the write after it waits for nobody.
const lockRow = "SELECT id FROM `credentials` " + byPrimaryKey + byRow + "\n" + forUpdate + noWait

// lockDue finds the rows that a batch may claim, those due for longest first, and passes over rows
// that another transaction has locked. The index is forced, for it serves the order: the scan ends
// with the last row taken and locks those alone, while a scan that sorts would lock, and read the
// tokens of, all that are due. The scan has a beginning, since a claim leaves an entry behind in
// the index until that is purged, which an old snapshot (a backup's) prevents. The rows that the
// conditions beside due_at pass over are seldom due: a leased row after a late save, or a row whose
// times a person has set. The conditions keep such rows from filling every batch. A lease that
// stands in the row is passed over unless it ended long ago.
const lockDue = dueRows + `
ORDER BY due_at LIMIT :limit
FOR UPDATE SKIP LOCKED`

// lockProbe is lockDue for a batch that is a probe.
const lockProbe = dueRows + `
  AND failures = 0
ORDER BY due_at DESC LIMIT :limit
FOR UPDATE SKIP LOCKED`

const dueRows = `FORCE INDEX (due)
WHERE service_name = :service
  AND due_at BETWEEN UTC_TIMESTAMP(6) - INTERVAL :longest MICROSECOND
                 AND UTC_TIMESTAMP(6) - INTERVAL :overdue MICROSECOND
  AND (lease_id = '' OR lease_end <= UTC_TIMESTAMP(6) - INTERVAL :lapsed MICROSECOND)
  AND failure_class <> 'dead'
  AND (retry_at IS NULL OR retry_at <= UTC_TIMESTAMP(6))`

// byClaim finds the rows that an earlier try of the same batch claimed. Such a row is due when its
// lease ends, or ended, which bounds the scan. A late save moves due_at on, and may move it out of
// that range: the row is then not found, its lease ends unused, and as the claim was overtaken,
// that counts as no interruption. Nor is a row found that was disabled after its claim: that one
// counts as interrupted once it is enabled, which costs a replay, and under NeverReplay the grant.
const byClaim = `WHERE service_name = :service
  AND due_at BETWEEN UTC_TIMESTAMP(6) + INTERVAL :first MICROSECOND
                 AND UTC_TIMESTAMP(6) + INTERVAL :last MICROSECOND
  AND lease_id = :claim`

// selectServices reads the first entry of each service, from the index alone (a loose index scan).
const selectServices = "SELECT DISTINCT service_name FROM `credentials` ORDER BY service_name"

// selectIDs finds the rows of a service from the index alone; one of findCondition is appended. The
// index is forced, for it leads to few rows where a condition goes by due_at, and the server may
// take a scan of the table for cheaper.
const selectIDs = "SELECT id FROM `credentials` FORCE INDEX (due)\nWHERE service_name = :service"

// findCondition finds the rows in a condition, and others: [credentials.Credential.Status] decides.
// A dead grant is never due (updateFail), nor a disabled credential (updateDisable). A lease that
// has ended was due at its end (updateClaim). A token may have expired though it is not due: its
// grant was revived (updateRevive).
var findCondition = map[credentials.Condition]string{
	credentials.ConditionDisabled:    "due_at IS NULL AND disabled_by <> ''",
	credentials.ConditionRefreshing:  "lease_end > UTC_TIMESTAMP(6)",
	credentials.ConditionDead:        "due_at IS NULL AND failure_class = 'dead'",
	credentials.ConditionFresh:       "due_at IS NULL OR due_at > UTC_TIMESTAMP(6)",
	credentials.ConditionInterrupted: "due_at <= UTC_TIMESTAMP(6) AND lease_id <> ''",
	credentials.ConditionBackingOff:  "retry_at > UTC_TIMESTAMP(6)",
	credentials.ConditionNoToken:     "access_token = ''",
	credentials.ConditionExpired:     "expiration <= UTC_TIMESTAMP(6)",
	credentials.ConditionDue:         "due_at <= UTC_TIMESTAMP(6)",
}

// statuses reads rows by their ids alone, as everything does that reads whole pages, of which a
// sharded database has a part on each shard anyway. The index is forced, since the server would
// read all rows to find a third of them.
const statuses = "FORCE INDEX (PRIMARY)\nWHERE id IN (?) ORDER BY id"

// selectDueServices reads the first entry that is not NULL of each service, from the index alone (a
// loose index scan). Where the table is sharded, Vitess takes the least of the shards' answers, and
// computes on it, for which it knows no TIMESTAMPDIFF.
const selectDueServices = "SELECT `service_name`,\n" +
	"       (TO_SECONDS(MIN(due_at)) - TO_SECONDS(UTC_TIMESTAMP(6))) * 1000000\n" +
	"         + MICROSECOND(MIN(due_at)) - MICROSECOND(UTC_TIMESTAMP(6)) AS due_in\n" +
	"FROM `credentials`" + `
WHERE due_at IS NOT NULL
GROUP BY service_name`

// selectVersions reads no token bytes; byRows is appended. A poller asks it for all rows that its
// process waits for.
const selectVersions = "SELECT id, version FROM `credentials` " + byPrimaryKey

// interrupts holds where the lease before a claim left an exchange of unknown outcome behind, by
// the rule of [credentials.Credential.Claimed].
const interrupts = "lease_id NOT IN ('', :claim, :unused) AND version <= lease_version"

// updateRow begins a write of rows whose ids are known: byPrimaryKey.
const updateRow = "UPDATE `credentials` FORCE INDEX (PRIMARY)"

// updateClaim takes the lease of one row or of many; the condition that names them ([unchanged]) is
// appended. The version makes the claim safe: of all claims that saw the row as it was, one changes
// it. If the claim interrupts an exchange, that one's holder and start are kept. due_at becomes
// lease_end, on which byClaim relies.
const updateClaim = updateRow + `
SET interrupted_by = IF(` + interrupts + `, lease_holder, interrupted_by),
    interrupted_at = IF(` + interrupts + `, lease_start, interrupted_at),
    lease_id       = :claim,
    lease_version  = version + 1,
    lease_holder   = :holder,
    lease_start    = UTC_TIMESTAMP(6),
    lease_end      = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND,
    due_at         = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND,
    version        = version + 1
`

// selectWon finds which rows a claim has changed, where updateClaim changed some; the condition that
// names them as claimed ([unchanged]) and the claim's id are appended. The transaction sees its own
// writes.
const selectWon = "SELECT id FROM `credentials` " + byPrimaryKey

// updatePostpone has rows that cannot be read make room for others; byRows and dueNow are appended.
// version stays: a lease that ended with nothing saved has to remain one.
const updatePostpone = updateRow + `
SET due_at = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND
`

const dueNow = " AND due_at <= UTC_TIMESTAMP(6)"

// lifetimeOrigin is the time from which the lifetimes of a save count: a moment by the server's
// clock that the process told, but not after now. A clock that was set back may be before it.
const lifetimeOrigin = "LEAST(UTC_TIMESTAMP(6), " +
	"IFNULL(DATE'1970-01-01' + INTERVAL :from MICROSECOND, UTC_TIMESTAMP(6)))"

// clearAttempts leaves nothing of the attempts since the last success or put.
const clearAttempts = `interrupted_by     = '',
    interrupted_at     = NULL,
    ` + clearFailure

const clearFailure = `failures           = 0,
    refusals           = 0,
    refused_at         = NULL,
    failure_class      = '',
    failure_code       = '',
    failure_reason     = '',
    failed_by          = '',
    failed_at          = NULL,
    retry_at           = NULL`

// clearLease gives up whatever lease stands in the row.
const clearLease = `lease_id           = '',
    lease_version      = 0,
    lease_holder       = '',
    lease_start        = '1970-01-01',
    lease_end          = '1970-01-01'`

// enabled holds where no operator has disabled the credential. A disabled one is never due, so that
// no keeper comes upon it.
const enabled = "disabled_by = ''"

// updateSave keeps a success. A success is turned down only where the result of a later claim or a
// put is stored already: a holder that was paused past its lease may come back with the only
// refresh token that works. Another's lease is left alone, and version moves on, so that the
// failure of the claim under that lease misses. GREATEST: a fail-over may have forgotten the claim,
// but version must not fall behind token_version. A success under the row's own lease survives the
// interruption before it; a late one may be that of the interrupted exchange itself.
const updateSave = updateRow + `
SET access_token       = :access_token,
    refresh_token      = :refresh_token,
    extra              = :extra,
    deployment         = :deployment,
    expiration         = ` + lifetimeOrigin + ` + INTERVAL :lifetime MICROSECOND,
    refresh_expiration = ` + lifetimeOrigin + ` + INTERVAL :refresh_lifetime MICROSECOND,
    due_at             = IF(` + enabled + `, ` + lifetimeOrigin + ` + INTERVAL :due_in MICROSECOND, NULL),
    refreshed_by       = :holder,
    refreshed_at       = UTC_TIMESTAMP(6),
    refresh_micros     = :took,
    token_version      = GREATEST(token_version, :version),
    version            = GREATEST(version, :version) + 1,
    survived_by        = IF(lease_id = :claim, interrupted_by, ''),
    survived_at        = IF(lease_id = :claim, interrupted_at, NULL),
    ` + clearAttempts + `,
    lease_version      = IF(lease_id = :claim, 0, lease_version),
    lease_holder       = IF(lease_id = :claim, '', lease_holder),
    lease_start        = IF(lease_id = :claim, '1970-01-01', lease_start),
    lease_end          = IF(lease_id = :claim, '1970-01-01', lease_end),
    lease_id           = IF(lease_id = :claim, '', lease_id)
` + byRow + ` AND (lease_id = :claim OR token_version < :version)`

// updateFail records a failure only if nothing was written since the claim but an operator's mark:
// a failure never covers a success, and a mark moves lease_version on with version.
const updateFail = updateRow + `
SET failures           = failures + 1,
    refused_at         = IF(:refusals > 1, refused_at, IF(:refusals = 1, UTC_TIMESTAMP(6), NULL)),
    refusals           = :refusals,
    failure_class      = :class,
    failure_code       = :code,
    failure_reason     = :reason,
    failed_by          = lease_holder,
    failed_at          = UTC_TIMESTAMP(6),
    retry_at           = UTC_TIMESTAMP(6) + INTERVAL :retry_in MICROSECOND,
    due_at             = IF(` + enabled + `, UTC_TIMESTAMP(6) + INTERVAL :retry_in MICROSECOND, NULL),
    interrupted_by     = IF(:unknown, lease_holder, interrupted_by),
    interrupted_at     = IF(:unknown, lease_start, interrupted_at),
    version            = version + 1,
    ` + clearLease + `
` + byRow + ` AND lease_id = :claim AND version = lease_version`

// updateRelease gives up the claim's own lease and nobody else's. If nothing was written since the
// claim, due_at is still the lease's end, and the credential is due at once.
const updateRelease = updateRow + `
SET due_at             = IF(` + enabled + `, IF(version = lease_version, UTC_TIMESTAMP(6), due_at), NULL),
    version            = version + 1,
    ` + clearLease + `
` + byRow + ` AND lease_id = :claim`

const insertRow = "INSERT INTO `credentials`" + `
       (service_name, account_name, deployment, access_token, refresh_token, extra,
        expiration, refresh_expiration, due_at, created_at)
VALUES (:service, ` + account + `, :deployment, :access_token, :refresh_token, :extra,
        UTC_TIMESTAMP(6) + INTERVAL :lifetime MICROSECOND,
        UTC_TIMESTAMP(6) + INTERVAL :refresh_lifetime MICROSECOND,
        UTC_TIMESTAMP(6) + INTERVAL :due_in MICROSECOND,
        UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE
    `

// insertNew stores a new grant, and leaves the row alone that somebody has made meanwhile.
const insertNew = insertRow + "id = id"

// upsertPut stores a new grant, or replaces one. token_version becomes the new version, so that the
// result of a claim made before the put misses; the lease, the failure and the interruption
// belonged to the old grant. The token is from no exchange, but the provider takes as long as
// before: refresh_micros stays.
const upsertPut = insertRow + `access_token       = :access_token,
    refresh_token      = :refresh_token,
    extra              = :extra,
    deployment         = :deployment,
    expiration         = UTC_TIMESTAMP(6) + INTERVAL :lifetime MICROSECOND,
    refresh_expiration = UTC_TIMESTAMP(6) + INTERVAL :refresh_lifetime MICROSECOND,
    due_at             = IF(` + enabled + `, UTC_TIMESTAMP(6) + INTERVAL :due_in MICROSECOND, NULL),
    refreshed_by       = '',
    refreshed_at       = NULL,
    token_version      = version + 1,
    version            = version + 1,
    survived_by        = '',
    survived_at        = NULL,
    ` + clearAttempts + `,
    ` + clearLease

// The pages of what goes through the whole table. A row that is made meanwhile has a greater id.
const (
	selectAfter = "WHERE id > :after ORDER BY id LIMIT :limit"
	selectRows  = "FORCE INDEX (PRIMARY)\nWHERE id IN (?) ORDER BY id"

	selectBeginnings = "SELECT id, LEFT(access_token, 25), LEFT(refresh_token, 25), LEFT(extra, 25)\n" +
		"FROM `credentials` " + selectAfter
)

// lockRows locks those of the rows that nobody has locked; byRows and lockFree are appended.
const lockRows = "SELECT id FROM `credentials` " + byPrimaryKey

const lockFree = "\n" + forUpdate + skipLocked

// updateReseal writes the same secrets re-sealed, all of a row's at once, and only if nothing was
// written since they were read. version stays, for nothing has changed that anybody waits for. Were
// it to move on, the failure of an exchange that is under way would miss, and a lease that ended
// with nothing saved would look overtaken by a success: its interruption would be lost. Another
// re-sealing does not show in version, and its newer key must not be covered by an older one:
// therefore extra has to begin as it did, with the name of its write.
const updateReseal = updateRow + `
SET access_token       = :access_token,
    refresh_token      = :refresh_token,
    extra              = :extra,
    deployment         = :deployment
` + byRow + ` AND version = :version AND LEFT(extra, 20) = UNHEX(:found)`

// The probes find out whether the account may write, and find nothing to write: no row has the id
// 0.
const (
	probeUpdate = "UPDATE `credentials`\nSET version = version + 1\nWHERE id = 0"
	probeInsert = "INSERT INTO `credentials`\n" +
		"       (service_name, account_name, access_token, refresh_token, extra, created_at)\n" +
		"SELECT 'a', 'b', '', '', '{}', UTC_TIMESTAMP(6) FROM DUAL WHERE FALSE"
	probeDelete = "DELETE FROM `credentials` WHERE id = 0"
)
