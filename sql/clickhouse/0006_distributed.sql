-- What clients of a cluster see: every table above under its plain name, spread over the shards. Applied only with
-- `cluster`. Rows of one endpoint stay on one shard, so most of a merge happens there.

CREATE TABLE IF NOT EXISTS ${database}.endpoint_windows ${on_cluster} AS ${database}.endpoint_windows_local
ENGINE = Distributed(${cluster}, ${database}, endpoint_windows_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.endpoint_windows_hours ${on_cluster} AS ${database}.endpoint_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, endpoint_windows_hours_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.endpoint_windows_days ${on_cluster} AS ${database}.endpoint_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, endpoint_windows_days_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.distinct_windows ${on_cluster} AS ${database}.distinct_windows_local
ENGINE = Distributed(${cluster}, ${database}, distinct_windows_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.distinct_windows_hours ${on_cluster} AS ${database}.distinct_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, distinct_windows_hours_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.distinct_windows_days ${on_cluster} AS ${database}.distinct_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, distinct_windows_days_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.identifier_windows ${on_cluster} AS ${database}.identifier_windows_local
ENGINE = Distributed(${cluster}, ${database}, identifier_windows_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.identifier_windows_hours ${on_cluster} AS ${database}.identifier_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, identifier_windows_hours_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.identifier_windows_days ${on_cluster} AS ${database}.identifier_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, identifier_windows_days_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.token_windows ${on_cluster} AS ${database}.token_windows_local
ENGINE = Distributed(${cluster}, ${database}, token_windows_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.token_windows_hours ${on_cluster} AS ${database}.token_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, token_windows_hours_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.token_windows_days ${on_cluster} AS ${database}.token_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, token_windows_days_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.violation_windows ${on_cluster} AS ${database}.violation_windows_local
ENGINE = Distributed(${cluster}, ${database}, violation_windows_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.violation_windows_hours ${on_cluster} AS ${database}.violation_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, violation_windows_hours_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.violation_windows_days ${on_cluster} AS ${database}.violation_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, violation_windows_days_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.entity_windows ${on_cluster} AS ${database}.entity_windows_local
ENGINE = Distributed(${cluster}, ${database}, entity_windows_local, cityHash64(zone, entity));

CREATE TABLE IF NOT EXISTS ${database}.entity_windows_hours ${on_cluster} AS ${database}.entity_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, entity_windows_hours_local, cityHash64(zone, entity));

CREATE TABLE IF NOT EXISTS ${database}.entity_windows_days ${on_cluster} AS ${database}.entity_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, entity_windows_days_local, cityHash64(zone, entity));

CREATE TABLE IF NOT EXISTS ${database}.session_windows ${on_cluster} AS ${database}.session_windows_local
ENGINE = Distributed(${cluster}, ${database}, session_windows_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.session_windows_hours ${on_cluster} AS ${database}.session_windows_hours_local
ENGINE = Distributed(${cluster}, ${database}, session_windows_hours_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.session_windows_days ${on_cluster} AS ${database}.session_windows_days_local
ENGINE = Distributed(${cluster}, ${database}, session_windows_days_local, cityHash64(zone, host, endpoint));

CREATE TABLE IF NOT EXISTS ${database}.flushes ${on_cluster} AS ${database}.flushes_local
ENGINE = Distributed(${cluster}, ${database}, flushes_local, cityHash64(pipeline, topic, `partition`));

CREATE TABLE IF NOT EXISTS ${database}.positions ${on_cluster} AS ${database}.positions_local
ENGINE = Distributed(${cluster}, ${database}, positions_local, cityHash64(pipeline, topic, `partition`));

CREATE TABLE IF NOT EXISTS ${database}.detections ${on_cluster} AS ${database}.detections_local
ENGINE = Distributed(${cluster}, ${database}, detections_local, cityHash64(pipeline));

CREATE TABLE IF NOT EXISTS ${database}.newest_detections ${on_cluster} AS ${database}.newest_detections_local
ENGINE = Distributed(${cluster}, ${database}, newest_detections_local, cityHash64(pipeline));
