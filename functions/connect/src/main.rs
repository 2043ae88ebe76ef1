//! The connect function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<connect::Connect>()
}
