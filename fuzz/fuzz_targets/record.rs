//! Whatever stands under a key: reading it neither panics nor takes memory beyond it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cache_runtime::hostile(bytes));
