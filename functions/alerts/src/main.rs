//! The alerts function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<alerts::Alerts>()
}
