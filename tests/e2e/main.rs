//! One suite for the whole system. By default the functions run in this process; with `E2E_FUNCTIONS=cargo-lambda` the
//! same tests run against the real binaries under `cargo lambda watch`, and with `E2E_FUNCTIONS=processes` against those that cargo
//! built last. One test always needs these and is ignored by default: workers that run in this process cannot be killed.
//!
//! With `E2E_TARGET` the tests that tests/smoke.txt names run against a deployed stack (`tests/run --target`). They see it only
//! from outside, and publish only to new regions that they watch themselves: an alert that nobody watches goes to everyone.

mod attacks;
mod authorization;
mod bad_input;
mod canary;
mod capacity;
mod delivery;
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
mod resuming;
mod rooms;
mod scoring;
mod site;
mod subscribing;
mod target;
mod titles;
mod units;
