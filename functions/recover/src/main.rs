//! The recover function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<recover::Recover>()
}
