//! libFuzzer's entry of the target `path`; what it does is in `src/path.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::path::run(input));
