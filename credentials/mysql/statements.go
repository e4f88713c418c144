package mysql

import "strings"

// statements are those of sql.go and sql_operate.go for one table. selectNone fails where a column
// is missing.
type statements struct {
	selectByKey, selectForClaim, selectForClaimNoWait, selectByRow, selectAll        statement
	selectServices, selectIDs, selectStatus, selectStatuses, selectFirst             statement
	selectNone, lockDue, lockProbe, selectClaimed, selectVersions, selectDueServices statement
	lockRow, lockRows, updatePostpone, selectWon                                     statement
	selectAfter, selectRows, selectBeginnings, updateReseal                          statement
	selectDead, lockDead, updateRevive, updateReviveOne                              statement
	selectNames, lockNames, deleteRows                                               statement
	updateDisable, updateEnable, updateEndLease, updateImported                      statement
	updateClaim, updateSave, updateFail, updateRelease                               statement
	insertNew, upsertPut, deleteRow, deleteSeen                                      statement
	probeUpdate, probeInsert, probeDelete                                            statement
}

// statementsFor returns the statements for that table, which is in the connection's database where
// none is named.
func statementsFor(database, table string) statements {
	quoted := quote(table)
	if database != "" {
		quoted = quote(database) + "." + quoted
	}
	in := func(sql string) statement { return compile(strings.Replace(sql, "`credentials`", quoted, 1)) }
	return statements{
		selectByKey:          in(selectRow + byKey),
		selectForClaim:       in(selectRow + byKey + forUpdate),
		selectForClaimNoWait: in(selectRow + byKey + forUpdate + noWait),
		selectByRow:          in(selectRow + byPrimaryKey + byRow),
		selectAll:            in(selectRow),
		selectServices:       in(selectServices),
		selectIDs:            in(selectIDs),
		selectStatus:         in(withoutSecrets.Replace(selectRow) + byKey),
		selectStatuses:       in(withoutSecrets.Replace(selectRow) + statuses),
		selectFirst:          in(withoutSecrets.Replace(selectRow) + "ORDER BY id LIMIT 200"),
		selectNone:           in(selectRow + "LIMIT 0"),
		lockDue:              in(selectRow + lockDue),
		lockProbe:            in(selectRow + lockProbe),
		selectClaimed:        in(selectRow + byClaim),
		selectVersions:       in(selectVersions),
		selectDueServices:    in(selectDueServices),
		lockRow:              in(lockRow),
		lockRows:             in(lockRows),
		selectAfter:          in(selectRow + selectAfter),
		selectRows:           in(selectRow + selectRows),
		selectBeginnings:     in(selectBeginnings),
		updateReseal:         in(updateReseal),
		updatePostpone:       in(updatePostpone),
		selectWon:            in(selectWon),
		selectNames:          in(selectName + named),
		lockNames:            in(lockNames),
		deleteRows:           in(deleteRows),
		selectDead:           in(selectName + declaredDead),
		lockDead:             in(selectName + declaredDead + forUpdate),
		updateRevive:         in(updateRevive),
		updateReviveOne:      in(updateReviveOne),
		updateDisable:        in(updateDisable),
		updateEnable:         in(updateEnable),
		updateEndLease:       in(updateEndLease),
		updateImported:       in(updateImported),
		updateClaim:          in(updateClaim),
		updateSave:           in(updateSave),
		updateFail:           in(updateFail),
		updateRelease:        in(updateRelease),
		insertNew:            in(insertNew),
		upsertPut:            in(upsertPut),
		deleteRow:            in(deleteRow),
		deleteSeen:           in(deleteSeen),
		probeUpdate:          in(probeUpdate),
		probeInsert:          in(probeInsert),
		probeDelete:          in(probeDelete),
	}
}

// quote returns a name as an identifier.
// https://dev.mysql.com/doc/refman/8.4/en/identifiers.html
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
