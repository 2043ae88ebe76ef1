//! The inspector: a page that shows frames, invocations and connections as they happen.

mod page;

pub(crate) use self::page::{Inspector, is_for, is_public};
