//! The publish function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<publish::Publish>()
}
