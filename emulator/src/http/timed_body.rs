//! The body of a request, which has to arrive in time.

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

/// Time that a client has for its whole request from the end of its head on; as much as the HTTP library gives it for the
/// head.
pub(super) const BODY_WAIT: Duration = Duration::from_secs(30);

/// A body that ends with an error when it has not arrived within [`BODY_WAIT`].
#[derive(Debug)]
pub(crate) struct Incoming {
    body: hyper::body::Incoming,
    due: Instant,
    /// Made when the body is waited for, which most never are.
    sleep: Option<Pin<Box<Sleep>>>,
    late: Late,
}

/// Whether a body has not arrived in time.
#[derive(Clone, Debug, Default)]
pub(super) struct Late(Arc<AtomicBool>);

impl Late {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a body is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It has not arrived in time.
    #[error("the body has not arrived within {BODY_WAIT:?}")]
    Late,
    /// The connection has ended, or what came is not a body.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl Incoming {
    pub(super) fn new(body: hyper::body::Incoming) -> (Self, Late) {
        let late = Late::default();
        (Self { body, due: Instant::now() + BODY_WAIT, sleep: None, late: late.clone() }, late)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let due = self.due;
        match self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due))).as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.late.0.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(BodyError::Late)))
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
