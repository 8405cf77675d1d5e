//! libFuzzer's entry of the target `token`; what it does is in `src/token.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::token::run(input));
