//! When a video that has been alerted in a region may be alerted there again.

use std::time::Duration;

use crate::{
    limits::{REPEAT_RISE_DEFAULT, REPEAT_RISE_MIN, REPEAT_WINDOW_DEFAULT, REPEAT_WINDOW_MAX, SCORE_MAX},
    runtime::environment::Reader,
};

/// What keeps a region from getting the same video again and again while it stays viral.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepeatRule {
    /// How long after an alert its video is not alerted again, unless a publication names its own window. 0 for none,
    /// at most [`REPEAT_WINDOW_MAX`].
    pub window: Duration,
    /// By how many points of the score a video has to rise to be alerted again within the window: from
    /// [`REPEAT_RISE_MIN`] to 100.
    pub rise: f64,
}

impl RepeatRule {
    /// Any video may be alerted again at once, as the score threshold alone has it.
    pub const NONE: Self = Self { window: REPEAT_WINDOW_DEFAULT, rise: REPEAT_RISE_DEFAULT };

    /// Reads `REPEAT_WINDOW`, in seconds, and `REPEAT_RISE`.
    pub fn from_env(environment: &mut Reader<'_>) -> Self {
        let [default, max] = [REPEAT_WINDOW_DEFAULT, REPEAT_WINDOW_MAX].map(|window| window.as_secs());
        let secs = environment.whole_number("REPEAT_WINDOW", default, 0..=max);
        let rise = environment.decimal_number("REPEAT_RISE", REPEAT_RISE_DEFAULT, REPEAT_RISE_MIN..=SCORE_MAX);
        Self { window: Duration::from_secs(secs), rise }
    }
}
