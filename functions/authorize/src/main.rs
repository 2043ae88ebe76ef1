//! The authorize function.

fn main() -> Result<(), lambda_runtime::Error> {
    shared::function::run::<authorize::Authorize>()
}
