-- Partial sums as flushes bring them, one table per file of `sql/windows/`. Rows with equal keys merge by themselves:
-- sums are added, sketches and arrival times keep the maximum.
--
-- A month is one partition: few enough that a log with absurd timestamps cannot create thousands of parts, and an
-- insert, which is cut by partition, stays one block. Rows are kept by the time they arrived.

CREATE TABLE IF NOT EXISTS ${database}.endpoint_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    host LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    status UInt16,
    session LowCardinality(String),
    token LowCardinality(String),
    schema_request LowCardinality(String),
    schema_response LowCardinality(String),
    mtls LowCardinality(String),
    mtls_reason LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64),
    request_bytes SimpleAggregateFunction(sum, UInt64),
    response_bytes SimpleAggregateFunction(sum, UInt64),
    durations SimpleAggregateFunction(sum, UInt64),
    duration_us SimpleAggregateFunction(sum, UInt64),
    duration_5ms SimpleAggregateFunction(sum, UInt64),
    duration_10ms SimpleAggregateFunction(sum, UInt64),
    duration_25ms SimpleAggregateFunction(sum, UInt64),
    duration_50ms SimpleAggregateFunction(sum, UInt64),
    duration_100ms SimpleAggregateFunction(sum, UInt64),
    duration_250ms SimpleAggregateFunction(sum, UInt64),
    duration_500ms SimpleAggregateFunction(sum, UInt64),
    duration_1000ms SimpleAggregateFunction(sum, UInt64),
    duration_2500ms SimpleAggregateFunction(sum, UInt64),
    duration_5000ms SimpleAggregateFunction(sum, UInt64),
    duration_over SimpleAggregateFunction(sum, UInt64),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status, session, token, schema_request, schema_response, mtls, mtls_reason)
TTL ${keep_minutes}
SETTINGS ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.distinct_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    host LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    sessions SimpleAggregateFunction(maxMap, Map(UInt16, UInt8)),
    clients SimpleAggregateFunction(maxMap, Map(UInt16, UInt8)),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
ORDER BY (window_start, zone, host, method, endpoint)
TTL ${keep_minutes}
SETTINGS ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.identifier_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    host LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    status_class LowCardinality(String),
    identifier LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, identifier)
TTL ${keep_minutes}
SETTINGS ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.token_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    host LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    status_class LowCardinality(String),
    configuration LowCardinality(String),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, configuration, outcome, reason)
TTL ${keep_minutes}
SETTINGS ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.violation_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    host LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    status_class LowCardinality(String),
    direction LowCardinality(String),
    location LowCardinality(String),
    class LowCardinality(String),
    target String,
    violations SimpleAggregateFunction(sum, UInt64),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, status_class, direction, location, class, target)
TTL ${keep_minutes}
SETTINGS ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.entity_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    kind LowCardinality(String),
    entity String,
    signal LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64),
    endpoints SimpleAggregateFunction(maxMap, Map(UInt16, UInt8)),
    addresses SimpleAggregateFunction(maxMap, Map(UInt16, UInt8)),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, kind, entity)
ORDER BY (window_start, zone, kind, entity, signal)
TTL ${keep_minutes}
SETTINGS ${deduplication};

CREATE TABLE IF NOT EXISTS ${database}.session_windows${local} ${on_cluster}
(
    window_start DateTime('UTC'),
    zone LowCardinality(String),
    host LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    session_id String,
    requests SimpleAggregateFunction(sum, UInt64),
    addresses SimpleAggregateFunction(maxMap, Map(UInt16, UInt8)),
    paths SimpleAggregateFunction(maxMap, Map(UInt16, UInt8)),
    stored_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ${aggregating}
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, zone, host, method, endpoint)
ORDER BY (window_start, zone, host, method, endpoint, session_id)
TTL ${keep_minutes}
SETTINGS ${deduplication};
