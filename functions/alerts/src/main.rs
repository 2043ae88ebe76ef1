//! The alerts function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<alerts::Alerts>()
}
