//! Forms of the query protocol, as SNS and SQS get them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| apigw_local::fuzzing::form(text));
