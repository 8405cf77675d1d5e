//! mTLS verdicts.
