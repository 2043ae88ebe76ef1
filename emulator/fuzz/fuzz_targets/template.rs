//! A SAM or CloudFormation template.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| apigw_local::fuzzing::template(text));
