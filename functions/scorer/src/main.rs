//! The scorer function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<scorer::Scorer>()
}
