//! The inspector: the page that a person keeps open while writing handlers, and the record that it shows.

mod page;

pub(crate) use self::page::{Inspector, is_for, is_public};
