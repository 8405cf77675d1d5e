-- The columns of the file before under the plain names of a cluster.

ALTER TABLE ${database}.entity_windows ${on_cluster} ADD COLUMN IF NOT EXISTS samples SimpleAggregateFunction(maxMap, Map(UInt16, String)) AFTER addresses;

ALTER TABLE ${database}.entity_windows_hours ${on_cluster} ADD COLUMN IF NOT EXISTS samples SimpleAggregateFunction(maxMap, Map(UInt16, String)) AFTER addresses;

ALTER TABLE ${database}.entity_windows_days ${on_cluster} ADD COLUMN IF NOT EXISTS samples SimpleAggregateFunction(maxMap, Map(UInt16, String)) AFTER addresses;

ALTER TABLE ${database}.session_windows ${on_cluster} ADD COLUMN IF NOT EXISTS sample SimpleAggregateFunction(max, String) AFTER paths;

ALTER TABLE ${database}.session_windows_hours ${on_cluster} ADD COLUMN IF NOT EXISTS sample SimpleAggregateFunction(max, String) AFTER paths;

ALTER TABLE ${database}.session_windows_days ${on_cluster} ADD COLUMN IF NOT EXISTS sample SimpleAggregateFunction(max, String) AFTER paths;
