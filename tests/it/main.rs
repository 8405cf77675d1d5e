//! Integration tests, one binary.

mod conformance_schema;
