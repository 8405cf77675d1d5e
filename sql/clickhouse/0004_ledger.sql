-- The ledger: one row for every flush that is done (design, "Exactly once, without another system").

CREATE TABLE IF NOT EXISTS ${database}.flushes${local} ${on_cluster}
(
    pipeline LowCardinality(String),
    topic LowCardinality(String),
    `partition` Int32,
    first UInt64,
    last UInt64,
    drain Bool,
    resume_from UInt64,
    resume_clock Nullable(Int64),
    stream_clock Nullable(Int64),
    closed Array(UInt64),
    minutes Array(DateTime('UTC')),
    all_minutes Bool,
    records UInt64,
    exchanges UInt64,
    rejected UInt64,
    blocks UInt64,
    stored_at DateTime64(3, 'UTC'),
    -- What arrived lately is asked for every second, and lies at the end of every partition.
    INDEX by_arrival stored_at TYPE minmax GRANULARITY 1
)
ENGINE = ${replacing}
ORDER BY (pipeline, topic, `partition`, last, first, drain)
TTL ${keep_ledger}
SETTINGS ${deduplication};

-- The newest row of every partition, whatever its age: a topic that was silent for a year goes on where it ended.

CREATE TABLE IF NOT EXISTS ${database}.positions${local} ${on_cluster} AS ${database}.flushes${local}
ENGINE = ${replacing_by_last}
ORDER BY (pipeline, topic, `partition`, drain)
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.flushes_to_positions ${on_cluster} TO ${database}.positions${local} AS
SELECT * FROM ${database}.flushes${local};
