-- What holds after a judged tick, and the events that follow from it, each written before it is published, with the term
-- of the evaluator that wrote it; a tick may have rows of two terms, of which one counts.

CREATE TABLE IF NOT EXISTS ${database}.detections${local} ${on_cluster}
(
    pipeline LowCardinality(String),
    tick Int64,
    term UInt64,
    state String CODEC(ZSTD(3)),
    changes String CODEC(ZSTD(3)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ${merge_tree}
ORDER BY (pipeline, tick, stored_at)
TTL ${keep_ledger}
SETTINGS ${deduplication};

-- The newest tick of every pipeline, whatever its age, and of two rows of one tick the one of the later term. An engine
-- replaces by one column, so this one is made of both; no tick is before 1970.

CREATE TABLE IF NOT EXISTS ${database}.newest_detections${local} ${on_cluster}
(
    pipeline LowCardinality(String),
    tick Int64,
    term UInt64,
    state String CODEC(ZSTD(3)),
    changes String CODEC(ZSTD(3)),
    stored_at DateTime64(3, 'UTC'),
    version UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(tick), 64), toUInt128(term))
)
ENGINE = ${replacing_by_version}
ORDER BY pipeline
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.detections_to_newest ${on_cluster} TO ${database}.newest_detections${local} AS
SELECT * FROM ${database}.detections${local};
