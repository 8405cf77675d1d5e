-- What holds after a judged tick, and the events that follow from it, each written before it is published. The state
-- names the term of the evaluator that wrote it; a tick may have rows of two terms, of which one counts.

CREATE TABLE IF NOT EXISTS ${database}.detections${local} ${on_cluster}
(
    pipeline LowCardinality(String),
    tick Int64,
    state String CODEC(ZSTD(3)),
    changes String CODEC(ZSTD(3)),
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ${merge_tree}
ORDER BY (pipeline, tick, stored_at)
TTL ${keep_ledger}
SETTINGS ${deduplication};

-- The newest tick of every pipeline, whatever its age.

CREATE TABLE IF NOT EXISTS ${database}.newest_detections${local} ${on_cluster} AS ${database}.detections${local}
ENGINE = ${replacing_by_tick}
ORDER BY pipeline
SETTINGS ${deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.detections_to_newest ${on_cluster} TO ${database}.newest_detections${local} AS
SELECT * FROM ${database}.detections${local};
