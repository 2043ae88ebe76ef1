//! Those who keep a token until nobody takes it any more, and what guarantee 3 asks of tokens that end.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::{
    cloud::{LIFE_MAX, Situation, lock},
    world::{
        Run,
        clients::{Client, Connected},
        readers::LEEWAY_S,
    },
};

/// Milliseconds by which the clocks of issuer and functions differ beside what is planned: tokens count in seconds.
const SECOND_MS: u64 = 1_000;

impl Client {
    /// A client with one token, which stays on a connection, or comes back with it until it is refused.
    pub(super) async fn holder(mut self, region: String, life_s: u64, stays: bool) {
        let ends_s = self.run.cloud.elapsed_ms() / 1_000 + life_s;
        self.token_ends_s = Some(ends_s);
        let regions = [region];
        while !self.run.is_over() {
            let began_ms = self.run.cloud.elapsed_ms();
            match self.connect(None).await {
                Ok(mut connected) => {
                    self.check_admitted(&connected, began_ms);
                    if self.change(&mut connected, true, &regions).await {
                        let stay = self.run.cloud.draw(&self.name, |random| random.random_range(3..40));
                        let until = (!stays).then(|| Instant::now() + Duration::from_secs(stay));
                        self.stay(&mut connected, until).await;
                    }
                    self.ends(&connected);
                }
                Err(401) => return self.is_refused(began_ms).await,
                Err(_) => {}
            }
            self.pause().await;
        }
    }

    fn leeway_ms(&self) -> (u64, u64) {
        let leeway_ms = LEEWAY_S.unsigned_abs() * 1_000;
        let slack_ms = self.run.cloud.planned().skew_ms as u64 + SECOND_MS;
        (leeway_ms - slack_ms, leeway_ms + slack_ms)
    }

    fn check_admitted(&self, connected: &Connected, began_ms: u64) {
        let ends_ms = lock(&self.run.journal).visits[connected.visit].token_ends_ms;
        if ends_ms.is_some_and(|ends_ms| began_ms > ends_ms + self.leeway_ms().1) {
            let name = &self.name;
            self.run.cloud.breaks(3, format!("{name} is admitted at {began_ms} ms with a token until {ends_ms:?}"));
        }
    }

    /// Its token is not taken any more, which has to be since it ended.
    async fn is_refused(&self, began_ms: u64) {
        let cloud = &self.run.cloud;
        cloud.reaches(Situation::TokenEnded);
        let ends_ms = self.token_ends_s.unwrap_or_default() * 1_000;
        if cloud.elapsed_ms() < ends_ms + self.leeway_ms().0 {
            cloud.breaks(3, format!("{} is refused at {began_ms} ms with a token until {ends_ms}", self.name));
        }
        self.run.over().await;
    }
}

impl Run {
    /// Nobody is sent anything long after the end of a token.
    pub(super) fn check_tokens(&self) {
        // It may have opened with the last of the leeway.
        let life_ms = u64::try_from(LIFE_MAX.as_millis()).unwrap_or(u64::MAX);
        let most_ms = life_ms + LEEWAY_S.unsigned_abs() * 1_000 + 2 * SECOND_MS;
        for visit in &lock(&self.journal).visits {
            let Some(ends_ms) = visit.token_ends_ms else { continue };
            if let Some(late) = visit.received.iter().find(|received| received.at_ms > ends_ms + most_ms) {
                let message = format!("{} is sent {late:?}, with a token until {ends_ms} ms", visit.client);
                self.cloud.breaks(3, message);
            }
        }
    }
}
