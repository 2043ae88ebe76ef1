//! The recover function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<recover::Recover>()
}
