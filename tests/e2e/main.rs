//! One suite for the whole system. By default the functions run in this process; with `E2E_FUNCTIONS=cargo-lambda` the
//! same tests run against the real binaries under `cargo lambda watch`.

mod bad_input;
mod delivery;
mod failures;
mod gateway;
mod history;
mod publishing;
mod recovering;
mod resuming;
mod site;
mod subscribing;
mod titles;
mod units;
