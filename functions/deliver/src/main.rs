//! The deliver function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<deliver::Deliver>()
}
