//! The canary function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<canary::Canary>()
}
