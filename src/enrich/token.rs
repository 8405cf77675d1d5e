//! Token verdicts.
