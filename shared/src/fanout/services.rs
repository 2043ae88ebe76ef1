//! What a fan-out needs of the world, and how it is set up.

use std::{future::Future, sync::Arc};

use clock::Clock;

use crate::{
    error::InternalError,
    fanout::task::FanoutTask,
    model::{
        alert::Alert,
        audience::Audience,
        connection::{ConnectionId, Slot, SlotRange},
        member::AudiencePage,
    },
    push::{ConnectionState, Frame, PostOutcome},
};

/// What a fan-out needs of the world. A simulation stands in for it.
pub trait Services: Send + Sync + 'static {
    /// Whether the log has an alert still.
    fn has(&self, alert: &Alert) -> impl Future<Output = Result<bool, InternalError>> + Send;

    /// One page of an audience within a range, after a slot or from the beginning.
    fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> impl Future<Output = Result<AudiencePage, InternalError>> + Send;

    /// One attempt of a post.
    fn post(&self, connection: &ConnectionId, frame: &Frame) -> impl Future<Output = PostOutcome> + Send;

    /// A question about a connection that was said to be gone.
    fn get_connection(&self, connection: &ConnectionId) -> impl Future<Output = ConnectionState> + Send;

    /// Closes a connection that counts as gone, and says whether it was there.
    fn close(&self, connection: &ConnectionId) -> impl Future<Output = ConnectionState> + Send;

    /// Removes every trace of connections.
    fn remove(&self, connections: Vec<ConnectionId>) -> impl Future<Output = Result<(), InternalError>> + Send;

    /// Starts another invocation of deliver.
    fn start(&self, task: &FanoutTask) -> impl Future<Output = Result<(), InternalError>> + Send;

    /// A random number from 0 to 1, by which pauses are spread.
    fn random(&self) -> f64;
}

/// Delivers what there is to tell.
#[derive(Debug)]
pub struct Fanout<S> {
    /// How the world is reached.
    pub services: Arc<S>,
    /// Calls of the management API per second that all fan-outs together may make.
    pub push_rate: f64,
    /// Posts per second that one worker is expected to make.
    pub worker_rate: f64,
    /// Largest number of suspects, which are connections said to be gone. They wait until all others have had their
    /// post.
    pub suspects_max: usize,
    /// Whether an alert without subscribers goes to everyone.
    pub fallback_to_everyone: bool,
    /// Tells the age of subscriptions.
    pub clock: Clock,
}
