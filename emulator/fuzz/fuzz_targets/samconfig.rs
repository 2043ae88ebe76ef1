//! A `samconfig.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| apigw_local::fuzzing::samconfig(text));
