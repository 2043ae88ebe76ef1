//! An event pattern, and behind the first line the event that it is matched with.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (pattern, event) = text.split_once('\n').unwrap_or((text, ""));
    apigw_local::fuzzing::pattern(pattern, event);
});
