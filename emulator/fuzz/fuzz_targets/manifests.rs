//! What the CDK and the Serverless Framework write beside a template, four files apart by NUL.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    apigw_local::fuzzing::manifests(std::array::from_fn(|_| parts.next().unwrap_or_default()));
});
