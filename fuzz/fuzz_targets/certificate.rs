//! libFuzzer's entry of the target `certificate`; what it does is in `src/certificate.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::certificate::run(input));
