-- The database, and which of these files it has seen. `gatewatch migrate` reads the greatest version from here.

CREATE DATABASE IF NOT EXISTS ${database} ${on_cluster};

CREATE TABLE IF NOT EXISTS ${database}.gatewatch_schema ${on_cluster}
(
    version UInt32,
    name String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ${everywhere_replacing}
ORDER BY version;
