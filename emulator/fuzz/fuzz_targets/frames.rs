//! What a client sends over an open connection: frames, messages, routes and their answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| apigw_local::fuzzing::frames(bytes));
