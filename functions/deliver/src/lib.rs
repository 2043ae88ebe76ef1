//! Delivers one alert to its audience; invoked asynchronously by publish.

use shared::{
    environment::InvalidEnvironment,
    error::Failure,
    fanout::{Fanout, Report, Task},
    function::{Function, Start},
    push::Pusher,
    subscriptions::Subscriptions,
};

/// The function's state.
#[derive(Debug)]
pub struct Deliver {
    fanout: Fanout,
}

impl Function for Deliver {
    type Event = Task;
    type Response = Report;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::of_function(start, &mut environment);
        let fallback_to_everyone = environment.parsed("FALLBACK_TO_EVERYONE", true);
        environment.finish(Self {
            fanout: Fanout {
                subscriptions,
                pusher: Pusher::new(&start.sdk),
                fallback_to_everyone,
                clock: start.clock.clone(),
            },
        })
    }

    async fn handle(&self, task: Task) -> Result<Report, Failure> {
        self.fanout.deliver(&task).await
    }
}
