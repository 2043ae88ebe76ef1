//! The deliver function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<deliver::Deliver>()
}
