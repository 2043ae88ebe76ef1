//! Zip files of code and layers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| apigw_local::fuzzing::archive(bytes));
