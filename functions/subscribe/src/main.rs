//! The subscribe function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<subscribe::Subscribe>()
}
