#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hashroute_fuzz::view_json(data));
