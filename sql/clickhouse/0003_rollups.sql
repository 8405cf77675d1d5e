-- The same rows in hours and in days, which are kept longer. A view hands on every inserted block with coarser times; the
-- engine of its target adds up what has become equal, so one block stays one block and a repeated one is recognised by
-- the log of each table.

CREATE TABLE IF NOT EXISTS ${database}.endpoint_windows_hours${local} ${on_cluster} AS ${database}.endpoint_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status, session, token, schema_request, schema_response, mtls, mtls_reason)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.endpoint_windows_to_hours ${on_cluster} TO ${database}.endpoint_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.endpoint_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.endpoint_windows_days${local} ${on_cluster} AS ${database}.endpoint_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status, session, token, schema_request, schema_response, mtls, mtls_reason)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.endpoint_windows_to_days ${on_cluster} TO ${database}.endpoint_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.endpoint_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.distinct_windows_hours${local} ${on_cluster} AS ${database}.distinct_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
ORDER BY (window_start, zone, host, method, endpoint)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.distinct_windows_to_hours ${on_cluster} TO ${database}.distinct_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.distinct_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.distinct_windows_days${local} ${on_cluster} AS ${database}.distinct_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
ORDER BY (window_start, zone, host, method, endpoint)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.distinct_windows_to_days ${on_cluster} TO ${database}.distinct_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.distinct_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.identifier_windows_hours${local} ${on_cluster} AS ${database}.identifier_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, identifier)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.identifier_windows_to_hours ${on_cluster} TO ${database}.identifier_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.identifier_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.identifier_windows_days${local} ${on_cluster} AS ${database}.identifier_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, identifier)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.identifier_windows_to_days ${on_cluster} TO ${database}.identifier_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.identifier_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.token_windows_hours${local} ${on_cluster} AS ${database}.token_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, configuration, outcome, reason)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.token_windows_to_hours ${on_cluster} TO ${database}.token_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.token_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.token_windows_days${local} ${on_cluster} AS ${database}.token_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, configuration, outcome, reason)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.token_windows_to_days ${on_cluster} TO ${database}.token_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.token_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.violation_windows_hours${local} ${on_cluster} AS ${database}.violation_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, direction, location, class, target)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.violation_windows_to_hours ${on_cluster} TO ${database}.violation_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.violation_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.violation_windows_days${local} ${on_cluster} AS ${database}.violation_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, direction, location, class, target)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.violation_windows_to_days ${on_cluster} TO ${database}.violation_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.violation_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.entity_windows_hours${local} ${on_cluster} AS ${database}.entity_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, kind, entity)
ORDER BY (window_start, zone, kind, entity, signal)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.entity_windows_to_hours ${on_cluster} TO ${database}.entity_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.entity_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.entity_windows_days${local} ${on_cluster} AS ${database}.entity_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
PRIMARY KEY (window_start, zone, kind, entity)
ORDER BY (window_start, zone, kind, entity, signal)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.entity_windows_to_days ${on_cluster} TO ${database}.entity_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.entity_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.session_windows_hours${local} ${on_cluster} AS ${database}.session_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, session_id)
TTL ${keep_hours}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.session_windows_to_hours ${on_cluster} TO ${database}.session_windows_hours${local} AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.session_windows${local};

CREATE TABLE IF NOT EXISTS ${database}.session_windows_days${local} ${on_cluster} AS ${database}.session_windows${local}
ENGINE = ${aggregating}
PARTITION BY toYear(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, session_id)
TTL ${keep_days}
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.session_windows_to_days ${on_cluster} TO ${database}.session_windows_days${local} AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.session_windows${local};
