//! libFuzzer's entry of the target `rule`; what it does is in `src/rule.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::rule::run(input));
