//! The simplest world: DynamoDB, whose every request and answer is on its way for a random time.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    client::{Call, Lost, Reply, World},
    engine::Engine,
};

/// Requests take effect in an order that the seed decides, one at a time. What is not for DynamoDB is accepted and
/// forgotten.
#[derive(Debug)]
pub struct Delays {
    engine: Engine,
    random: Mutex<StdRng>,
    /// Milliseconds on the way, there and back each.
    ms: Range<u64>,
}

impl Delays {
    /// A world with a database, in which each way takes a time within `ms`, in milliseconds.
    pub fn new(engine: Engine, seed: u64, ms: Range<u64>) -> Arc<Self> {
        Arc::new(Self { engine, random: Mutex::new(StdRng::seed_from_u64(seed)), ms })
    }

    /// Its database.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    async fn travel(&self) {
        let ms = self.random.lock().expect("unpoisoned").random_range(self.ms.clone());
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl World for Delays {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, Lost>> {
        async move {
            self.travel().await;
            // Anything else is an invocation, which Lambda accepts.
            let reply = if call.operation.is_empty() {
                Reply { status: 202, body: Vec::new() }
            } else {
                self.engine.answer(&call)
            };
            self.travel().await;
            Ok(reply)
        }
        .boxed()
    }
}
