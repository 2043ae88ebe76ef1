//! The canary function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<canary::Canary>()
}
