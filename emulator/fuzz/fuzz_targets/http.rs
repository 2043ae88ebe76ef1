//! What a client sends over a connection to HTTP and REST APIs, and behind the first NUL the answer of their functions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (request, answer) = bytes.split_at(end);
    apigw_local::fuzzing::http(request, answer.strip_prefix(&[0]).unwrap_or_default());
});
