//! The subscribe function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<subscribe::Subscribe>()
}
