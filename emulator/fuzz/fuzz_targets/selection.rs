//! A selection expression, and behind the first line the message that it is evaluated for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (expression, message) = text.split_once('\n').unwrap_or((text, ""));
    apigw_local::fuzzing::selection(expression, message);
});
