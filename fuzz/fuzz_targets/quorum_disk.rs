#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hashroute_quorum::fuzzing::quorum_disk(data));
