//! Why the store cannot go on, and whether waiting helps.

use arrow::error::ArrowError;
use thiserror::Error;

/// Why ClickHouse cannot be used, or not right now.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No answer: refused, reset, timed out, or a gateway in between that says so.
    #[error("ClickHouse at {place} does not answer: {message}")]
    Unreachable {
        /// Address.
        place: String,
        /// What the connection says.
        message: String,
    },
    /// The server answers with an exception.
    #[error("ClickHouse at {place} refuses: {message}{}", hint(*code))]
    Refused {
        /// Address.
        place: String,
        /// ClickHouse's error code; 0 when something else answered.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The connection cannot even be tried.
    #[error("ClickHouse at {place} cannot be asked: {message}\n  hint: {hint}")]
    Unusable {
        /// Address.
        place: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The tables are of another version of this program.
    #[error(
        "the tables of database {database:?} have version {found}, this program knows {known}\n  hint: {}",
        if found > known { "use the newer gatewatch that made them" } else { "run `gatewatch migrate`, or set store.migrate = \"auto\"" }
    )]
    Version {
        /// The database.
        database: String,
        /// Version of the tables; 0 = there are none.
        found: u32,
        /// Version of this program.
        known: u32,
    },
    /// A table without the log that makes retries harmless.
    #[error(
        "table {table} keeps {found} for deduplication, {needed} is the least that makes a retried flush count once\n  \
         hint: ALTER TABLE {table} MODIFY SETTING {needed}"
    )]
    Deduplication {
        /// The table, with its database.
        table: String,
        /// What its definition says.
        found: String,
        /// What it must say at least.
        needed: String,
    },
    /// A table that a migration made is gone.
    #[error(
        "table {table} is missing\n  hint: restore it; migrations that were applied are not repeated"
    )]
    MissingTable {
        /// The table, with its database.
        table: String,
    },
    /// Rows that are not of the shape that we asked for or that we write, which is a bug.
    #[error("rows of {table} have an unexpected shape: {source}")]
    Shape {
        /// The table.
        table: String,
        /// What Arrow says.
        source: ArrowError,
    },
}

/// Exceptions that pass by themselves, by code (`src/Common/ErrorCodes.cpp`): load and memory, timeouts, networks between
/// servers, keeper, replicas that catch up, queries that somebody cancelled, and bodies that arrived cut.
const PASSING: &[u32] = &[
    3,    // UNEXPECTED_END_OF_FILE
    32,   // ATTEMPT_TO_READ_AFTER_EOF
    33,   // CANNOT_READ_ALL_DATA
    95,   // CANNOT_READ_FROM_SOCKET
    159,  // TIMEOUT_EXCEEDED
    160,  // TOO_SLOW
    198,  // DNS_ERROR
    202,  // TOO_MANY_SIMULTANEOUS_QUERIES
    203,  // NO_FREE_CONNECTION
    209,  // SOCKET_TIMEOUT
    210,  // NETWORK_ERROR
    225,  // NO_ZOOKEEPER
    236,  // ABORTED
    241,  // MEMORY_LIMIT_EXCEEDED
    242,  // TABLE_IS_READ_ONLY
    243,  // NOT_ENOUGH_SPACE
    252,  // TOO_MANY_PARTS
    254,  // NO_ACTIVE_REPLICAS
    279,  // ALL_CONNECTION_TRIES_FAILED
    285,  // TOO_FEW_LIVE_REPLICAS
    286,  // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    289,  // REPLICA_IS_NOT_IN_QUORUM
    319,  // UNKNOWN_STATUS_OF_INSERT
    364,  // RECEIVED_ERROR_TOO_MANY_REQUESTS
    369,  // ALL_REPLICAS_ARE_STALE
    394,  // QUERY_WAS_CANCELLED
    415,  // ALL_REPLICAS_LOST
    425,  // SYSTEM_ERROR
    439,  // CANNOT_SCHEDULE_TASK
    473,  // DEADLOCK_AVOIDED
    499,  // S3_ERROR
    659,  // UNKNOWN_STATUS_OF_TRANSACTION
    667,  // NOT_INITIALIZED
    677,  // THREAD_WAS_CANCELED
    692,  // TOO_MANY_MUTATIONS
    722,  // ASYNC_LOAD_WAIT_FAILED
    733,  // TABLE_IS_BEING_RESTARTED
    734,  // CANNOT_WRITE_AFTER_BUFFER_CANCELED
    735,  // QUERY_WAS_CANCELLED_BY_CLIENT
    745,  // SERVER_OVERLOADED
    749,  // TCP_CONNECTION_LIMIT_REACHED
    999,  // KEEPER_EXCEPTION
    1000, // POCO_EXCEPTION
];

/// Codes with which the server refuses credentials or rights.
const CREDENTIALS: &[u32] = &[192, 193, 194, 497, 516];
/// Unknown table, unknown database.
const UNKNOWN: &[u32] = &[60, 81];

/// Most characters of a server's words that are shown; a stack trace says nothing to whoever reads a log.
const MOST_WORDS: usize = 1_000;

fn hint(code: u32) -> &'static str {
    if CREDENTIALS.contains(&code) {
        "\n  hint: check store.user and store.password, and the rights of this user"
    } else if UNKNOWN.contains(&code) {
        "\n  hint: run `gatewatch migrate`"
    } else {
        ""
    }
}

impl StoreError {
    /// Whether the same request may succeed later. A definite refusal is a fault.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => PASSING.contains(code),
            Self::Unusable { .. }
            | Self::Version { .. }
            | Self::Deduplication { .. }
            | Self::MissingTable { .. }
            | Self::Shape { .. } => false,
        }
    }

    /// What the client library says, sorted by what to do about it.
    pub(super) fn of(place: &str, error: &clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;

        let place = place.to_owned();
        match error {
            Error::BadResponse(text) => Self::answered(place, text),
            Error::InvalidParams(source) => Self::Unusable {
                place,
                message: source.to_string(),
                hint: "store.url is the address of the HTTP interface, e.g. http://clickhouse:8123",
            },
            Error::Network(_) => {
                let message = chain(error);
                // A connection that is refused for who the server is will be refused again.
                if message.contains("invalid peer certificate") {
                    return Self::Unusable {
                        place,
                        message,
                        hint: "name the authority that signed the server's certificate as store.ca",
                    };
                }
                Self::Unreachable { place, message }
            }
            Error::TimedOut => Self::Unreachable {
                place,
                message: "no answer in time".to_owned(),
            },
            // An answer that ends early leaves half a message behind.
            other => Self::Unreachable {
                place,
                message: chain(other),
            },
        }
    }

    fn answered(place: String, text: &str) -> Self {
        let code = exception_code(text);
        let message: String = text.trim().chars().take(MOST_WORDS).collect();
        // What stands between us and the server may be slow or busy, too.
        let definite = code.is_some()
            || status(text).is_some_and(|status| {
                (300..500).contains(&status) && !matches!(status, 408 | 425 | 429)
            });
        if definite {
            Self::Refused {
                place,
                code: code.unwrap_or(0),
                message,
            }
        } else {
            Self::Unreachable { place, message }
        }
    }
}

/// The status code that a message starts with, as the client writes it for an answer without a body.
fn status(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let digits = text.get(..end.unwrap_or(text.len()))?;
    (digits.len() == 3).then(|| digits.parse().ok()).flatten()
}

/// The code in `Code: 516. DB::Exception: …`.
fn exception_code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// An error with its causes; a cause that is already quoted is not repeated.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clickhouse::error::Error;

    use super::StoreError;

    #[test]
    fn what_passes_is_retried_and_what_is_wrong_is_said() {
        let answer = |text: &str| StoreError::of("http://c:8123", &Error::BadResponse(text.into()));
        for passing in [
            "Code: 252. DB::Exception: Too many parts (3000). (TOO_MANY_PARTS)",
            "Code: 241. DB::Exception: memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)",
            "Code: 999. Coordination::Exception: Session expired. (KEEPER_EXCEPTION)",
            "503 Service Unavailable",
            "408 Request Timeout",
            "425 Too Early",
            "429 Too Many Requests",
            "<html><h1>502 Bad Gateway</h1></html>",
        ] {
            assert!(answer(passing).retry(), "{passing}");
            assert!(answer(passing).to_string().contains(passing));
        }
        for definite in [
            "Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)",
            "Code: 60. DB::Exception: Table g.x does not exist. (UNKNOWN_TABLE)",
            "Code: 53. DB::Exception: Cannot convert. (TYPE_MISMATCH)",
            "404 Not Found",
            "301 Moved Permanently",
        ] {
            assert!(!answer(definite).retry(), "{definite}");
            assert!(answer(definite).to_string().contains(definite));
        }
        let credentials = answer("Code: 516. DB::Exception: no. (AUTHENTICATION_FAILED)");
        assert!(credentials.to_string().contains("store.password"));
        let untrusted = Error::Network(
            "client error (Connect): invalid peer certificate: UnknownIssuer".into(),
        );
        let untrusted = StoreError::of("https://c:8443", &untrusted);
        assert!(!untrusted.retry() && untrusted.to_string().contains("store.ca"));
        assert!(StoreError::of("http://c", &Error::Network("connection refused".into())).retry());
        assert!(StoreError::of("http://c", &Error::TimedOut).retry());
    }
}
