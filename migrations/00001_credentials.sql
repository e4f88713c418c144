-- +goose Up
CREATE TABLE IF NOT EXISTS `credentials` (
    `id`                 BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'a row deleted and made again must not match an old claim',
    `service_name`       VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `account_name`       VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'empty where a service has one account',
    `deployment`         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'whose refresh token this is; no other deployment presents it; empty: anybody''s',

    `access_token`       BLOB NOT NULL COMMENT 'empty: none yet; sealed where a zero byte is first, as the next two are',
    `refresh_token`      BLOB NOT NULL,
    `extra`              BLOB NOT NULL COMMENT 'JSON object of strings that came beside the token',
    `expiration`         DATETIME(6) NULL COMMENT 'of access_token, UTC; NULL: does not expire',
    `refresh_expiration` DATETIME(6) NULL COMMENT 'of refresh_token, UTC; NULL: not known',
    `due_at`             DATETIME(6) NULL COMMENT 'renew from then on, UTC; NULL: not before someone asks',

    `version`            BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'moves on with every write',
    `token_version`      BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'version of the claim or put that the access token came from',

    `lease_id`           VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'the claim; empty: none',
    `lease_version`      BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'version that the claim made; version is beyond it: an earlier holder''s success came since',
    `lease_holder`       VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    `lease_start`        DATETIME(6) NOT NULL DEFAULT '1970-01-01',
    `lease_end`          DATETIME(6) NOT NULL DEFAULT '1970-01-01' COMMENT 'past, with lease_id set: outcome unknown',

    `interrupted_by`     VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'holder of an exchange of unknown outcome since the last success',
    `interrupted_at`     DATETIME(6) NULL,
    `survived_by`        VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'as interrupted_by, of the exchange before the last success: the provider may still revoke the grant for it',
    `survived_at`        DATETIME(6) NULL,

    `failures`           INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'since the last success',
    `refusals`           INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'in a row, for a reason that nobody knows',
    `refused_at`         DATETIME(6) NULL COMMENT 'the first of them',
    `failure_class`      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'dead, transient or unknown; empty: none',
    `failure_code`       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'the provider''s, such as invalid_grant',
    `failure_reason`     VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    `failed_by`          VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    `failed_at`          DATETIME(6) NULL,
    `retry_at`           DATETIME(6) NULL COMMENT 'no exchange before then, UTC',

    `disabled_by`        VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'operator; empty: not disabled. While it is set, due_at is NULL',
    `disabled_at`        DATETIME(6) NULL,

    `refreshed_by`       VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'holder whose exchange brought access_token; empty: it was put',
    `refreshed_at`       DATETIME(6) NULL,
    `refresh_micros`     BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'how long the provider took',
    `created_at`         DATETIME(6) NOT NULL,

    PRIMARY KEY (`id`),
    UNIQUE KEY `service_account` (`service_name`, `account_name`),
    KEY `due` (`service_name`, `due_at`),
    -- The binary collations are PAD SPACE: 'a' and 'a ' would be one key here and two in Go.
    CHECK (`service_name` <> '' AND `service_name` NOT LIKE '% '),
    CHECK (`account_name` NOT LIKE '% ')
) ENGINE = InnoDB COMMENT = 'latchkey schema 1';

-- +goose Down
DROP TABLE IF EXISTS `credentials`;
