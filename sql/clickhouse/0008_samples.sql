-- Ids of exchanges behind the sums, so that whoever is blocked for a threshold is blocked with examples: of an entity and
-- signal the greatest id of each of 64 places (a hash of the id chooses), of a session the greatest. Like sums and sketches
-- they are the same in whatever order rows merge. Rows of before have none.

ALTER TABLE ${database}.entity_windows${local} ${on_cluster} ADD COLUMN IF NOT EXISTS samples SimpleAggregateFunction(maxMap, Map(UInt16, String)) AFTER addresses;

ALTER TABLE ${database}.entity_windows_hours${local} ${on_cluster} ADD COLUMN IF NOT EXISTS samples SimpleAggregateFunction(maxMap, Map(UInt16, String)) AFTER addresses;

ALTER TABLE ${database}.entity_windows_days${local} ${on_cluster} ADD COLUMN IF NOT EXISTS samples SimpleAggregateFunction(maxMap, Map(UInt16, String)) AFTER addresses;

ALTER TABLE ${database}.session_windows${local} ${on_cluster} ADD COLUMN IF NOT EXISTS sample SimpleAggregateFunction(max, String) AFTER paths;

ALTER TABLE ${database}.session_windows_hours${local} ${on_cluster} ADD COLUMN IF NOT EXISTS sample SimpleAggregateFunction(max, String) AFTER paths;

ALTER TABLE ${database}.session_windows_days${local} ${on_cluster} ADD COLUMN IF NOT EXISTS sample SimpleAggregateFunction(max, String) AFTER paths;

-- A view knows the columns that there were when it was made.

ALTER TABLE ${database}.entity_windows_to_hours ${on_cluster} MODIFY QUERY
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.entity_windows${local};

ALTER TABLE ${database}.entity_windows_to_days ${on_cluster} MODIFY QUERY
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.entity_windows${local};

ALTER TABLE ${database}.session_windows_to_hours ${on_cluster} MODIFY QUERY
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM ${database}.session_windows${local};

ALTER TABLE ${database}.session_windows_to_days ${on_cluster} MODIFY QUERY
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM ${database}.session_windows${local};
