//! The statements of a policy, and in further lines the action and the resource that they are judged for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut next = || lines.next().unwrap_or_default();
    apigw_local::fuzzing::policy(next(), next(), next());
});
