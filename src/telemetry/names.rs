//! Names of metrics; the text format adds `_total` to counters.

/// Records between the last one applied and the end of the partition.
pub const LAG: &str = "gatewatch_lag_records";
/// Records applied.
pub const RECORDS: &str = "gatewatch_records";
/// Exchanges judged and stored.
pub const EXCHANGES: &str = "gatewatch_exchanges";
/// Records refused.
pub const REJECTED: &str = "gatewatch_rejected_records";
/// Exchanges that belong to no zone.
pub const UNZONED: &str = "gatewatch_unzoned_exchanges";
/// Responses whose request never came.
pub const ORPHANS: &str = "gatewatch_orphan_responses";
/// Requests whose response never came.
pub const UNANSWERED: &str = "gatewatch_unanswered_requests";
/// What fell into `{overflow}`.
pub const OVERFLOW: &str = "gatewatch_overflow";
/// Flushes stored.
pub const FLUSHES: &str = "gatewatch_flushes";
/// Rows of a flush, all tables together.
pub const FLUSH_ROWS: &str = "gatewatch_flush_rows";
/// Time of one stage of a flush.
pub const FLUSH_SECONDS: &str = "gatewatch_flush_seconds";
/// Requests to the store that were repeated.
pub const STORE_RETRIES: &str = "gatewatch_store_retries";
/// Halves that wait for the other one.
pub const JOIN_OPEN: &str = "gatewatch_join_open_halves";
/// Their payloads.
pub const JOIN_BYTES: &str = "gatewatch_join_open_bytes";
/// Token verdicts that were asked for.
pub const TOKEN_LOOKUPS: &str = "gatewatch_token_cache_lookups";
/// Signatures of tokens that were checked.
pub const TOKEN_SIGNATURES: &str = "gatewatch_token_signature_checks";
/// Tokens that were not evaluated.
pub const TOKENS_NOT_EVALUATED: &str = "gatewatch_tokens_not_evaluated";
/// Fetches of key sets.
pub const KEY_FETCHES: &str = "gatewatch_jwks_fetches";
/// Key sets whose last fetch failed.
pub const KEYS_FAILING: &str = "gatewatch_jwks_failing";
/// Events published.
pub const PUBLISHED: &str = "gatewatch_published_events";
/// Whether this process is the evaluator.
pub const EVALUATOR: &str = "gatewatch_evaluator_owner";
/// Ticks judged.
pub const TICKS: &str = "gatewatch_evaluator_ticks";
/// Event time up to which everything is judged.
pub const WATERMARK: &str = "gatewatch_watermark_timestamp_seconds";
/// Changes of the partitions that this process reads.
pub const REBALANCES: &str = "gatewatch_rebalances";
/// Records that were gone before they were read.
pub const GAPS: &str = "gatewatch_gap_records";
/// Deliveries of the block list to gateways.
pub const EXPORTS: &str = "gatewatch_exports";
/// Entries that a gateway was given.
pub const EXPORT_ENTRIES: &str = "gatewatch_export_entries";
/// Entries that its format cannot express.
pub const EXPORT_LEFT_OUT: &str = "gatewatch_export_left_out_entries";
/// Entries of the block list that this process knows.
pub const BLOCK_LIST_ENTRIES: &str = "gatewatch_blocklist_entries";
/// What became of proposals for the block list, and ends.
pub const BLOCK_LIST_DECISIONS: &str = "gatewatch_blocklist_decisions";
/// How old the block list of a process may be.
pub const BLOCK_LIST_STALE: &str = "gatewatch_blocklist_stale_seconds";
/// Requests that the inline check could not decide.
pub const CHECKS_UNDECIDED: &str = "gatewatch_checks_undecided";
/// Signatures of tokens that the inline check had verified.
pub const CHECK_SIGNATURES: &str = "gatewatch_check_token_signature_checks";
/// Answers of the inline check.
pub const CHECKS: &str = "gatewatch_checks";
/// Batches answered by the HTTP source.
pub const HTTP_BATCHES: &str = "gatewatch_http_batches";
