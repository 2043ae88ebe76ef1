//! The scorer function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<scorer::Scorer>()
}
