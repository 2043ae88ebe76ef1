//! The body of a request, with a time limit.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long the body of a request may take after its head: as long as the HTTP library allows for the head.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that ends with an error if it does not arrive within [`BODY_TIMEOUT`].
#[derive(Debug)]
pub(crate) struct TimedBody {
    body: hyper::body::Incoming,
    deadline: Instant,
    /// Made when the body is first waited for, which most bodies never are.
    sleep: Option<Pin<Box<Sleep>>>,
    timed_out: TimedOutFlag,
}

/// Set when a body has timed out.
#[derive(Clone, Debug, Default)]
pub(super) struct TimedOutFlag(Arc<AtomicBool>);

impl TimedOutFlag {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The body did not arrive in time.
    #[error("the body did not arrive within {BODY_TIMEOUT:?}")]
    TimedOut,
    /// The connection ended, or the body is malformed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl TimedBody {
    pub(super) fn new(body: hyper::body::Incoming) -> (Self, TimedOutFlag) {
        let timed_out = TimedOutFlag::default();
        (Self { body, deadline: Instant::now() + BODY_TIMEOUT, sleep: None, timed_out: timed_out.clone() }, timed_out)
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let deadline = self.deadline;
        match self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.timed_out.0.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
