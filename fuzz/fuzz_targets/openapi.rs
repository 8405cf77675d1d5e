//! libFuzzer's entry of the target `openapi`; what it does is in `src/openapi.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::openapi::run(input));
