//! Session verdicts.
