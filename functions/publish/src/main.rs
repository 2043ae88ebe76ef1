//! The publish function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<publish::Publish>()
}
