//! The disconnect function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<disconnect::Disconnect>()
}
