#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| newswire_server::fuzzing::token(data));
