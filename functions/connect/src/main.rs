//! The connect function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<connect::Connect>()
}
