-- What clients of a cluster see of the table before. Applied only with `cluster`.

CREATE TABLE IF NOT EXISTS ${database}.events ${on_cluster} AS ${database}.events_local
ENGINE = Distributed(${cluster}, ${database}, events_local, cityHash64(source, `partition`));
