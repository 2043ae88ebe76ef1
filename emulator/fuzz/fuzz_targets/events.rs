//! What a client of an Event API sends over its socket: frames, messages, channels, credentials and events.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| apigw_local::fuzzing::events(bytes));
