//! One suite for the whole service. By default the functions run in this process. With `E2E_FUNCTIONS=processes` they
//! are the programs that cargo built last, and with `E2E_FUNCTIONS=cargo-lambda` they run under `cargo lambda watch`.
//! With the path of a `template.yaml` they are the programs that it names (`tests/upgrade`).
//! One ignored test always needs the programs, because it kills workers.
//!
//! With `E2E_TARGET` the tests in tests/smoke.txt run against a deployed stack (`tests/run --target`). They see it only
//! from outside, and publish only to new regions with subscribers of their own, because other alerts go to everyone.

mod attacks;
mod authorization;
mod bad_input;
mod canary;
mod capacity;
mod delivery;
mod event_api;
mod failures;
mod gateway;
mod history;
mod keepalive;
mod killed;
mod limits;
mod publications;
mod publishing;
mod recovering;
mod removal;
mod repeats;
mod resuming;
mod rooms;
mod scoring;
mod site;
mod subscribing;
mod target;
mod titles;
mod units;
mod ways_in;
