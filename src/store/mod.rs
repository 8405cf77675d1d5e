//! Where partial sums are kept and read back, merged. Layer 2: never judges.

use std::path::PathBuf;

pub mod clickhouse;
pub mod local;

/// Which store a pipeline has.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// Parquet files in this folder.
    Local(PathBuf),
    /// ClickHouse.
    ClickHouse(Box<clickhouse::Settings>),
}
