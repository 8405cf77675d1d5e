//! libFuzzer's entry of the target `event`; what it does is in `src/event.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gatewatch_fuzz::event::run(input));
