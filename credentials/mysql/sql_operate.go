package mysql

// The statements of operators' changes. A change of one row is decided under the row's lock, and
// :seen, the version that it was decided on, lets one of several through where that lock is not
// honoured.

// declaredDead finds the grants of a service that were marked dead in a stretch of time, by the
// provider's word and not by a policy. A dead grant is never due, so that the index leads to such
// rows alone, in the order of their ids.
const declaredDead = `FORCE INDEX (due)
WHERE service_name = :service AND due_at IS NULL AND id > :after
  AND failure_class = 'dead' AND failure_code NOT IN (:interrupted, :unknown)
  AND deployment IN ('', :deployment)
  AND failed_at BETWEEN DATE'1970-01-01' + INTERVAL :since MICROSECOND
                    AND DATE'1970-01-01' + INTERVAL :began MICROSECOND
ORDER BY id LIMIT :limit
`

// selectName selects the names of rows, byte by byte.
const selectName = "SELECT id, CAST(account_name AS BINARY) AS account_name_bytes\nFROM `credentials` "

const selectNow = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

// updateRevive clears the marks of rows that the transaction has locked; byRows is appended. The
// record of an interrupted exchange stays. The rows fall due within a stretch of time, at places
// that the checksums of their ids spread, which are the same for every server that repeats the
// statement. TiDB takes no expression in parentheses after INTERVAL.
const updateRevive = updateRow + `
SET due_at             = IF(` + enabled + `,
                            DATE'1970-01-01' + INTERVAL FLOOR(:due + CRC32(id) / 4294967296 * :width) MICROSECOND,
                            NULL),
    version            = version + 1,
    ` + clearFailure + `
`

// updateReviveOne clears the mark of one dead grant, whatever it died of. The record of an
// interrupted exchange stays, unless the refresh token is to be presented again all the same: under
// NeverReplay, the next exchange would fail by that record alone.
const updateReviveOne = updateRow + `
SET due_at             = IF(` + enabled + `, UTC_TIMESTAMP(6), NULL),
    version            = version + 1,
    interrupted_by     = IF(:replay, '', interrupted_by),
    interrupted_at     = IF(:replay, NULL, interrupted_at),
    ` + clearFailure + `
` + byRow + ` AND version = :seen AND failure_class = 'dead'`

// markLease moves the fencing version of a lease on with the row's own: a mark is no write that the
// holder's failure could cover, nor one that says that the lease was overtaken. A lease that was
// overtaken before stays so.
const markLease = "lease_version      = IF(version = lease_version, version + 1, lease_version)"

// updateDisable leaves the lease of an exchange that is under way: its holder may have presented
// the refresh token, and looks at no row before it does. So its success is saved, and its failure
// is recorded, as ever.
const updateDisable = updateRow + `
SET disabled_by        = :by,
    disabled_at        = UTC_TIMESTAMP(6),
    due_at             = NULL,
    ` + markLease + `,
    version            = version + 1
` + byRow + ` AND version = :seen AND disabled_by = ''`

// updateEnable has the credential due when it would be by its lease or its back-off; otherwise at
// once, since the policy of its service is not known here. One that has nothing to present and a
// token that does not expire is never due, as it was when it was put.
const updateEnable = updateRow + `
SET disabled_by        = '',
    disabled_at        = NULL,
    due_at             = CASE
                           WHEN lease_id <> '' THEN lease_end
                           WHEN failure_class = 'dead' THEN NULL
                           WHEN retry_at > UTC_TIMESTAMP(6) THEN retry_at
                           WHEN access_token <> '' AND refresh_token = '' AND expiration IS NULL THEN NULL
                           ELSE UTC_TIMESTAMP(6)
                         END,
    ` + markLease + `,
    version            = version + 1
` + byRow + ` AND version = :seen AND disabled_by <> ''`

// updateEndLease ends the lease that stands in the row, live or ended, as a claim in its place
// would: the outcome of its exchange is unknown, unless it was overtaken. The holder's success is
// stored all the same unless a later one is (updateSave); its failure misses.
const updateEndLease = updateRow + `
SET interrupted_by     = IF(version <= lease_version, lease_holder, interrupted_by),
    interrupted_at     = IF(version <= lease_version, lease_start, interrupted_at),
    due_at             = IF(` + enabled + `, IF(version <= lease_version, UTC_TIMESTAMP(6), due_at), NULL),
    version            = version + 1,
    ` + clearLease + `
` + byRow + ` AND version = :seen AND lease_id <> ''`

// named finds those of the rows that are still there. The index is forced, as in statuses.
const named = "FORCE INDEX (PRIMARY)\nWHERE id IN (?) AND deployment IN ('', ?) ORDER BY id"

// lockNames locks rows by their keys, since deleteRows follows; byRows is appended.
const lockNames = selectName + "FORCE INDEX (service_account)\n"

// updateImported notes what was known of a credential that upsertPut has just put in the same
// transaction.
const updateImported = "UPDATE `credentials`" + `
SET due_at             = IF(` + enabled + ` AND :disabled_by = '' AND NOT :dead, due_at, NULL),
    interrupted_by     = :interrupted_by,
    interrupted_at     = DATE'1970-01-01' + INTERVAL :interrupted_at MICROSECOND,
    failures           = IF(:dead, 1, 0),
    failure_class      = IF(:dead, 'dead', ''),
    failure_code       = :code,
    failure_reason     = :reason,
    failed_by          = :failed_by,
    failed_at          = DATE'1970-01-01' + INTERVAL :failed_at MICROSECOND,
    disabled_at        = IF(` + enabled + `, DATE'1970-01-01' + INTERVAL :disabled_at MICROSECOND, disabled_at),
    disabled_by        = IF(` + enabled + `, :disabled_by, disabled_by),
    version            = version + 1
` + byKey

// deleteRows deletes rows that the transaction has locked by their keys; byRows is appended.
const deleteRows = "DELETE FROM `credentials` "

// deleteRow deletes a row that the transaction has locked by its key.
const deleteRow = deleteRows + byRow

// deleteSeen deletes a row that an operator has looked at.
const deleteSeen = deleteRow + " AND version = :seen"
