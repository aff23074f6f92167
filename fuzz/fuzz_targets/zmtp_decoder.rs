#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hashroute_fuzz::zmtp_decoder(data));
