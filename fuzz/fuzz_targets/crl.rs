//! libFuzzer's entry of the target `crl`; what it does is in `src/crl.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::crl::run(input));
