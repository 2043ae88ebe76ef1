//! Panics of a world's thread. Most happen in tasks that nobody waits for, so nothing else would tell of them.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the first panic of each thread from here on, for [`first`].
pub(super) fn keep() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            FIRST.with(|first| _ = first.borrow_mut().get_or_insert_with(|| panic.to_string()));
            before(panic);
        }));
    });
}

/// The first panic of this thread, if there was one.
pub(super) fn first() -> Option<String> {
    FIRST.with(|first| first.borrow_mut().take())
}
