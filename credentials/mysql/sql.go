package mysql

import "strings"

// The statements, all of them. Times are written and compared by the server's clock alone (UTC_TIMESTAMP(6)); what goes
// in and out are microseconds. Conditional UPDATEs always change `version`, so that the number of rows affected is the
// same whether the host counts found or changed rows; no assignment reads a column assigned before it, so that they
// mean the same under MariaDB's SIMULTANEOUS_ASSIGNMENT. Names of bind variables are sqlx's.

// columns is what every read selects, in whole microseconds from the statement's start. Where the statement waited for
// a row lock, that start lies in the past, and so does the caller's anchor: nothing is taken for fresher than it is.
const columns = "SELECT `id`, `service_name`, CAST(`account_name` AS BINARY) AS `account_name`," + `
       TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))       AS read_at,
       token, refresh_token, extra, version, token_version,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expiration)         AS expires_in,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), refresh_expiration) AS refresh_expires_in,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), due_at)             AS due_in,
       lease_id, lease_version, lease_holder,
       TIMESTAMPDIFF(MICROSECOND, lease_start, UTC_TIMESTAMP(6))        AS lease_age,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), lease_end)          AS lease_ends_in,
       interrupted_by,
       TIMESTAMPDIFF(MICROSECOND, interrupted_at, UTC_TIMESTAMP(6))     AS interrupted_ago,
       failures, failure_class, failure_code, failure_reason, failed_by,
       TIMESTAMPDIFF(MICROSECOND, failed_at, UTC_TIMESTAMP(6))          AS failed_ago,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), retry_at)           AS retry_in,
       refreshed_by,
       TIMESTAMPDIFF(MICROSECOND, refreshed_at, UTC_TIMESTAMP(6))       AS refreshed_ago,
       refresh_micros
FROM ` + "`credentials`\n"

// account compares the name byte by byte whatever character set the host's connection declares.
const account = "CONVERT(CAST(:account AS BINARY) USING utf8mb4) COLLATE utf8mb4_bin"

// byKey serves from the unique key, so that under READ COMMITTED it locks one row and no gap.
const byKey = "WHERE service_name = :service AND account_name = " + account + "\n"

const selectByKey = columns + byKey

// selectForClaim makes contenders queue for the row. Correctness does not rest on it: a server that grants the lock
// twice (several primaries) still lets only one updateClaim through.
const selectForClaim = columns + byKey + "FOR UPDATE"

// lockDue finds what a batch may claim, what has been due for longest first, and passes over what another has locked. The
// index is forced, for it serves the order: the scan ends with the last row taken and locks those alone, while one that
// sorts would lock, and read the tokens of, all that are due. It has a beginning, since a claim leaves an entry behind in
// the index until that is purged, which an old snapshot (a backup's) prevents. What the conditions beside due_at pass
// over is seldom due: a leased row after a late save, or one whose times a person has set. They keep it from filling
// every batch.
const lockDue = columns + `FORCE INDEX (due)
WHERE service_name = :service
  AND due_at BETWEEN UTC_TIMESTAMP(6) - INTERVAL :longest MICROSECOND AND UTC_TIMESTAMP(6) - INTERVAL :overdue MICROSECOND
  AND lease_end <= UTC_TIMESTAMP(6)
  AND failure_class <> 'rejected'
  AND (retry_at IS NULL OR retry_at <= UTC_TIMESTAMP(6))
ORDER BY due_at LIMIT :limit
FOR UPDATE SKIP LOCKED`

// selectClaimed finds what an earlier try of the same batch claimed. Such a row is due when its lease ends, which bounds
// the scan. A late save moves due_at on, and may move it out of that range: the row is then not found, its lease ends
// unused, and as the claim was overtaken, that counts as no interruption.
const selectClaimed = columns + `WHERE service_name = :service
  AND due_at > UTC_TIMESTAMP(6) AND due_at <= UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND
  AND lease_id = :claim AND lease_end > UTC_TIMESTAMP(6)`

// selectDueServices reads the first entry that is not NULL of each service, from the index alone (a loose index scan).
const selectDueServices = "SELECT `service_name`, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MIN(due_at)) AS due_in\n" +
	"FROM `credentials`" + `
WHERE due_at IS NOT NULL
GROUP BY service_name`

// updateClaim takes the lease of one row or of many; the condition which ([unchanged]) is appended. The version makes it
// safe: of all claims that saw the row as it was, one changes it. If the lease before it left an exchange of unknown
// outcome behind, its holder's name and start are kept, by the rule of [credentials.Credential.Claimed]. due_at becomes
// lease_end, on which selectClaimed relies.
const updateClaim = "UPDATE `credentials`" + `
SET interrupted_by = IF(lease_id <> '' AND lease_id <> :claim AND version <= lease_version, lease_holder, interrupted_by),
    interrupted_at = IF(lease_id <> '' AND lease_id <> :claim AND version <= lease_version, lease_start, interrupted_at),
    lease_id       = :claim,
    lease_version  = version + 1,
    lease_holder   = :holder,
    lease_start    = UTC_TIMESTAMP(6),
    lease_end      = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND,
    due_at         = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND,
    version        = version + 1
WHERE `

// updatePostpone has a row that cannot be read make room for others. It leaves version alone: a lease that ended with
// nothing saved has to remain one.
const updatePostpone = "UPDATE `credentials`" + `
SET due_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE id IN (?) AND due_at <= UTC_TIMESTAMP(6)`

// from is when the lifetimes of a save count from: a moment by the server's clock that the process told, but not after
// now, which a clock that was set back may be before.
const from = "LEAST(UTC_TIMESTAMP(6), IFNULL(DATE'1970-01-01' + INTERVAL :from MICROSECOND, UTC_TIMESTAMP(6)))"

// updateSave keeps a success. It is turned down only where the result of a later claim or a put is stored already: a
// holder that was paused past its lease may come back with the only refresh token that works. Another's lease is left
// alone, and version moves on, so that the failure of the claim under that lease misses. GREATEST: a fail-over may have
// forgotten the claim, but version must not fall behind token_version.
const updateSave = "UPDATE `credentials`" + `
SET token              = :token,
    refresh_token      = :refresh_token,
    extra              = :extra,
    expiration         = ` + from + ` + INTERVAL :lifetime MICROSECOND,
    refresh_expiration = ` + from + ` + INTERVAL :refresh_lifetime MICROSECOND,
    due_at             = ` + from + ` + INTERVAL :due_in MICROSECOND,
    refreshed_by       = :holder,
    refreshed_at       = UTC_TIMESTAMP(6),
    refresh_micros     = :took,
    token_version      = GREATEST(token_version, :version),
    version            = GREATEST(version, :version) + 1,
    interrupted_by     = '',
    interrupted_at     = NULL,
    failures           = 0,
    failure_class      = '',
    failure_code       = '',
    failure_reason     = '',
    failed_by          = '',
    failed_at          = NULL,
    retry_at           = NULL,
    lease_version      = IF(lease_id = :claim, 0, lease_version),
    lease_holder       = IF(lease_id = :claim, '', lease_holder),
    lease_start        = IF(lease_id = :claim, '1970-01-01', lease_start),
    lease_end          = IF(lease_id = :claim, '1970-01-01', lease_end),
    lease_id           = IF(lease_id = :claim, '', lease_id)
WHERE id = :row AND (lease_id = :claim OR token_version < :version)`

// updateFail records a failure only if nothing at all was written since the claim: a failure never covers a success.
const updateFail = "UPDATE `credentials`" + `
SET failures       = failures + 1,
    failure_class  = :class,
    failure_code   = :code,
    failure_reason = :reason,
    failed_by      = lease_holder,
    failed_at      = UTC_TIMESTAMP(6),
    retry_at       = UTC_TIMESTAMP(6) + INTERVAL :retry_in MICROSECOND,
    due_at         = UTC_TIMESTAMP(6) + INTERVAL :retry_in MICROSECOND,
    interrupted_by = IF(:unknown, lease_holder, interrupted_by),
    interrupted_at = IF(:unknown, lease_start, interrupted_at),
    version        = version + 1,
    lease_id       = '',
    lease_version  = 0,
    lease_holder   = '',
    lease_start    = '1970-01-01',
    lease_end      = '1970-01-01'
WHERE id = :row AND lease_id = :claim AND version = :version`

// updateRelease gives up the claim's own lease and nobody else's. If nothing was written since the claim, due_at is
// still the lease's end, and the credential is due at once.
const updateRelease = "UPDATE `credentials`" + `
SET due_at        = IF(version = :version, UTC_TIMESTAMP(6), due_at),
    version       = version + 1,
    lease_id      = '',
    lease_version = 0,
    lease_holder  = '',
    lease_start   = '1970-01-01',
    lease_end     = '1970-01-01'
WHERE id = :row AND lease_id = :claim`

// upsertPut stores a new grant, or replaces one. token_version becomes the new version, so that the result of a claim
// made before the put misses; the lease, the failure and the interruption belonged to the old grant.
const upsertPut = "INSERT INTO `credentials`" + `
       (service_name, account_name, token, refresh_token, extra, expiration, refresh_expiration, due_at, created_at)
VALUES (:service, ` + account + `, :token, :refresh_token, :extra,
        UTC_TIMESTAMP(6) + INTERVAL :lifetime MICROSECOND,
        UTC_TIMESTAMP(6) + INTERVAL :refresh_lifetime MICROSECOND,
        UTC_TIMESTAMP(6) + INTERVAL :due_in MICROSECOND,
        UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE
    token              = :token,
    refresh_token      = :refresh_token,
    extra              = :extra,
    expiration         = UTC_TIMESTAMP(6) + INTERVAL :lifetime MICROSECOND,
    refresh_expiration = UTC_TIMESTAMP(6) + INTERVAL :refresh_lifetime MICROSECOND,
    due_at             = UTC_TIMESTAMP(6) + INTERVAL :due_in MICROSECOND,
    token_version      = version + 1,
    version            = version + 1,
    interrupted_by     = '',
    interrupted_at     = NULL,
    failures           = 0,
    failure_class      = '',
    failure_code       = '',
    failure_reason     = '',
    failed_by          = '',
    failed_at          = NULL,
    retry_at           = NULL,
    lease_id           = '',
    lease_version      = 0,
    lease_holder       = '',
    lease_start        = '1970-01-01',
    lease_end          = '1970-01-01'`

const deleteRow = "DELETE FROM `credentials` WHERE id = :row"

// selectVersions reads no token bytes; a poller asks it for all rows that its process waits for.
const selectVersions = "SELECT id, version FROM `credentials` WHERE id IN (?)"

// selectPage lists by keyset, so that a long listing holds neither a lock nor a snapshot.
const selectPage = columns + "WHERE id > :after AND (:service = '' OR service_name = :service) ORDER BY id LIMIT 200"

// selectNone fails where a column is missing.
const selectNone = columns + "LIMIT 0"

const selectByRow = columns + "WHERE id = :row"

// statements are the above for one table.
type statements struct {
	selectByKey, selectForClaim, selectByRow, selectPage, selectNone         string
	selectVersions, lockDue, selectClaimed, selectDueServices                string
	updatePostpone                                                           string
	updateClaim, updateSave, updateFail, updateRelease, upsertPut, deleteRow string
}

func statementsFor(table string) statements {
	quoted := "`" + strings.ReplaceAll(table, "`", "``") + "`"
	in := func(sql string) string { return strings.Replace(sql, "`credentials`", quoted, 1) }
	return statements{
		selectByKey:       in(selectByKey),
		selectForClaim:    in(selectForClaim),
		selectByRow:       in(selectByRow),
		selectPage:        in(selectPage),
		selectNone:        in(selectNone),
		selectVersions:    in(selectVersions),
		lockDue:           in(lockDue),
		selectClaimed:     in(selectClaimed),
		selectDueServices: in(selectDueServices),
		updatePostpone:    in(updatePostpone),
		updateClaim:       in(updateClaim),
		updateSave:        in(updateSave),
		updateFail:        in(updateFail),
		updateRelease:     in(updateRelease),
		upsertPut:         in(upsertPut),
		deleteRow:         in(deleteRow),
	}
}
