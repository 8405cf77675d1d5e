//! OpenAPI documents → validators.
