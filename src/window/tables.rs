//! The tables of partial sums: what each column is, and how rows merge.
//!
//! Recipe for a new table: `sql/windows/<name>.sql`, a line in [`TABLES`], and its place in the stores.

use arrow::datatypes::DataType;

use super::sketch::{samples_type, sketch_type};

/// How the values of a measure merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// By addition.
    Sum,
    /// Register by register, by maximum.
    Sketch,
    /// Ids of exchanges, the greatest of each place.
    Samples,
    /// The id of one exchange, the greatest; empty = none is known.
    Sample,
}

impl Merge {
    /// Type of the columns that are no sums, as the windows have them.
    #[must_use]
    pub fn kind(self) -> Option<DataType> {
        match self {
            Self::Sum => None,
            Self::Sketch => Some(sketch_type()),
            Self::Samples => Some(samples_type()),
            Self::Sample => Some(DataType::Utf8View),
        }
    }
}

/// Width of the time buckets that rows are read or kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// As computed: one minute (ten for sessions, an hour for distinct counts).
    Minute,
    /// One hour.
    Hour,
    /// One day.
    Day,
}

impl Resolution {
    /// Every width, finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Width in milliseconds.
    #[must_use]
    pub fn millis(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// The name in paths and in `date_trunc`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The next wider one.
    #[must_use]
    pub fn wider(self) -> Option<Self> {
        match self {
            Self::Minute => Some(Self::Hour),
            Self::Hour => Some(Self::Day),
            Self::Day => None,
        }
    }
}

/// One table of partial sums. Its time column is `window_start`.
#[derive(Debug)]
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Query over the tables of a flush.
    pub sql: &'static str,
    /// Dimensions besides the time.
    pub keys: &'static [&'static str],
    /// Measures.
    pub measures: &'static [(&'static str, Merge)],
}

const OPERATION: [&str; 4] = ["zone", "host", "method", "endpoint"];
const REQUESTS: &[(&str, Merge)] = &[("requests", Merge::Sum)];

/// Every table, in the order in which a flush is written.
pub const TABLES: &[Table] = &[
    Table {
        name: "endpoint_windows",
        sql: include_str!("../../sql/windows/endpoint_windows.sql"),
        keys: &[
            OPERATION[0],
            OPERATION[1],
            OPERATION[2],
            OPERATION[3],
            "status",
            "session",
            "token",
            "schema_request",
            "schema_response",
            "mtls",
            "mtls_reason",
        ],
        measures: &[
            ("requests", Merge::Sum),
            ("request_bytes", Merge::Sum),
            ("response_bytes", Merge::Sum),
            ("durations", Merge::Sum),
            ("duration_us", Merge::Sum),
            ("duration_5ms", Merge::Sum),
            ("duration_10ms", Merge::Sum),
            ("duration_25ms", Merge::Sum),
            ("duration_50ms", Merge::Sum),
            ("duration_100ms", Merge::Sum),
            ("duration_250ms", Merge::Sum),
            ("duration_500ms", Merge::Sum),
            ("duration_1000ms", Merge::Sum),
            ("duration_2500ms", Merge::Sum),
            ("duration_5000ms", Merge::Sum),
            ("duration_over", Merge::Sum),
        ],
    },
    Table {
        name: "distinct_windows",
        sql: include_str!("../../sql/windows/distinct_windows.sql"),
        keys: &OPERATION,
        measures: &[("sessions", Merge::Sketch), ("clients", Merge::Sketch)],
    },
    Table {
        name: "identifier_windows",
        sql: include_str!("../../sql/windows/identifier_windows.sql"),
        keys: &[
            OPERATION[0],
            OPERATION[1],
            OPERATION[2],
            OPERATION[3],
            "status_class",
            "identifier",
        ],
        measures: REQUESTS,
    },
    Table {
        name: "token_windows",
        sql: include_str!("../../sql/windows/token_windows.sql"),
        keys: &[
            OPERATION[0],
            OPERATION[1],
            OPERATION[2],
            OPERATION[3],
            "status_class",
            "configuration",
            "outcome",
            "reason",
        ],
        measures: REQUESTS,
    },
    Table {
        name: "violation_windows",
        sql: include_str!("../../sql/windows/violation_windows.sql"),
        keys: &[
            OPERATION[0],
            OPERATION[1],
            OPERATION[2],
            OPERATION[3],
            "status_class",
            "direction",
            "location",
            "class",
            "target",
        ],
        measures: &[("violations", Merge::Sum)],
    },
    Table {
        name: "entity_windows",
        sql: include_str!("../../sql/windows/entity_windows.sql"),
        keys: &["zone", "kind", "entity", "signal"],
        measures: &[
            ("requests", Merge::Sum),
            ("endpoints", Merge::Sketch),
            ("addresses", Merge::Sketch),
            ("samples", Merge::Samples),
        ],
    },
    Table {
        name: "session_windows",
        sql: include_str!("../../sql/windows/session_windows.sql"),
        keys: &[
            OPERATION[0],
            OPERATION[1],
            OPERATION[2],
            OPERATION[3],
            "session_id",
        ],
        measures: &[
            ("requests", Merge::Sum),
            ("addresses", Merge::Sketch),
            ("paths", Merge::Sketch),
            ("sample", Merge::Sample),
        ],
    },
];

/// The table with this name.
#[must_use]
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

impl Table {
    /// Query that merges the rows of `from` (a relation with this table's columns), in buckets of `resolution`, or
    /// over all time when there is none.
    #[must_use]
    pub fn merge_sql(&self, from: &str, resolution: Option<Resolution>) -> String {
        let keys = self.keys.join(", ");
        let measures: Vec<String> = self
            .measures
            .iter()
            .map(|(name, merge)| match merge {
                Merge::Sum => format!("sum({name}) AS {name}"),
                Merge::Sketch => format!("merge_registers({name}) AS {name}"),
                Merge::Samples => format!("merge_samples({name}) AS {name}"),
                Merge::Sample => format!("max({name}) AS {name}"),
            })
            .collect();
        let measures = measures.join(", ");
        match resolution {
            None => {
                format!("SELECT {keys}, {measures} FROM {from} GROUP BY {keys} ORDER BY {keys}")
            }
            Some(resolution) => {
                let bucket = match resolution {
                    Resolution::Minute => "window_start".to_owned(),
                    wider => format!("date_trunc('{}', window_start)", wider.as_str()),
                };
                format!(
                    "SELECT {bucket} AS window_start, {keys}, {measures} FROM {from} \
                     GROUP BY 1, {keys} ORDER BY 1, {keys}"
                )
            }
        }
    }
}
