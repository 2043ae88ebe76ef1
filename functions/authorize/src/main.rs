//! The authorize function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::runtime::function::run::<authorize::Authorize>()
}
