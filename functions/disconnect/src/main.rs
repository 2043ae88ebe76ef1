//! The disconnect function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<disconnect::Disconnect>()
}
