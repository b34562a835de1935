#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| newswire_fuzz::cloudevent(data));
