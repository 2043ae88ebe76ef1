//! Suspects: connections that were said to be gone. They are asked about again after the posts to all others.
//!
//! The service has said so of connections that were open, and such answers come together in time. So a connection
//! counts as gone when three answers in a row agree, to a post, to GetConnection and to another post, the last of them
//! at least [`GONE_OVER`] after the first. Any other answer leads to another post of what it shall have. Whoever counts
//! as gone is closed at once: a client that is there after all sees its socket close and comes back, instead of waiting
//! on a connection that nothing is sent to any more.

use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    error::InternalError,
    fanout::{
        post::{End, Post, Work},
        services::Services,
        suspect::Suspect,
        tally::Tally,
    },
    limits::{GONE_OVER, POST_BACKOFF_MAX, POST_TIMEOUT, SUSPECT_QUESTIONS_IN_FLIGHT, SUSPECT_QUESTIONS_MAX},
    push::{Cause, ConnectionState},
};

impl Suspect {
    /// Stays one, and is asked about again after a pause of up to `share` of the longest.
    fn later(mut self, share: f64) -> Post {
        self.due = Instant::now() + POST_BACKOFF_MAX.mul_f64(share);
        self.stays()
    }

    fn stays(self) -> Post {
        Post::of(End::Suspected(Box::new(self)))
    }
}

impl<S: Services> Work<'_, S> {
    /// Asks about suspects until each has an end, or until the time is up. Returns those that have none.
    pub(super) async fn settle(
        &self,
        mut suspects: Vec<Suspect>,
        deadline: Instant,
        tally: &mut Tally<'_>,
    ) -> Result<Vec<Suspect>, InternalError> {
        while !suspects.is_empty() && Instant::now() < deadline {
            // Nobody waits behind somebody who may be asked later.
            suspects.sort_by_key(|suspect| suspect.due);
            let mut questions = stream::iter(suspects)
                .map(|suspect| self.ask(suspect, deadline))
                .buffer_unordered(SUSPECT_QUESTIONS_IN_FLIGHT)
                .boxed();
            let mut left = Vec::new();
            while let Some(asked) = questions.next().await {
                left.extend(tally.add(asked?));
            }
            drop(questions);
            suspects = left;
        }
        Ok(suspects)
    }

    /// Asks the next question about a suspect when it is due.
    async fn ask(&self, mut suspect: Suspect, deadline: Instant) -> Result<Post, InternalError> {
        if suspect.asked >= SUSPECT_QUESTIONS_MAX {
            return Ok(Post::of(End::Undelivered(Cause::Unconfirmed)));
        }
        if suspect.due >= deadline {
            return Ok(suspect.stays());
        }
        sleep_until(suspect.due).await;
        if !self.is_admitted(deadline).await {
            return Ok(suspect.stays());
        }
        suspect.asked += 1;
        match suspect.answers {
            1 => self.check_connection(suspect, deadline).await,
            2 => self.post_again(suspect, deadline).await,
            _ => Ok(self.close(suspect, deadline).await),
        }
    }

    async fn check_connection(&self, mut suspect: Suspect, deadline: Instant) -> Result<Post, InternalError> {
        let services = &self.fanout.services;
        match timeout_at(deadline, services.get_connection(&suspect.member.connection)).await {
            Ok(ConnectionState::Open) if self.is_admitted(deadline).await => self.post_again(suspect, deadline).await,
            Ok(ConnectionState::Open) | Err(_) => Ok(suspect.stays()),
            Ok(ConnectionState::Gone) => {
                suspect.answers += 1;
                suspect.due = suspect.since + GONE_OVER;
                Ok(suspect.stays())
            }
            Ok(unclear) => Ok(self.unclear(suspect, unclear)),
        }
    }

    /// Posts to a suspect: as the third question, or because it was just said to be open.
    async fn post_again(&self, suspect: Suspect, deadline: Instant) -> Result<Post, InternalError> {
        let Suspect { member, since, answers, asked, due } = suspect;
        let give_up = deadline.min(Instant::now() + POST_TIMEOUT);
        // Boxed: it is seldom needed, and large.
        let mut post = self.post(member.clone(), give_up).boxed().await?;
        post.end = match post.end {
            End::Suspected(again) if answers == 1 => End::Suspected(Box::new(Suspect { asked, ..*again })),
            // The answer is as good as the third: a connection is opening for so long and no longer.
            End::Suspected(_) if self.is_young(&member) => End::Undelivered(Cause::Unconfirmed),
            End::Suspected(_) => {
                let suspect = Suspect { member, since, answers: answers + 1, due: Instant::now(), asked };
                let post = if self.is_admitted(deadline).await {
                    self.close(suspect, deadline).await
                } else {
                    suspect.stays()
                };
                post.end
            }
            // The deadline ended it, and not an answer.
            End::Undelivered(_) if Instant::now() >= deadline => {
                End::Suspected(Box::new(Suspect { member, since, answers, due, asked }))
            }
            end => end,
        };
        Ok(post)
    }

    /// Closes a connection that counts as gone. Without a clear answer it stays a suspect: it may be there.
    async fn close(&self, suspect: Suspect, deadline: Instant) -> Post {
        let connection = &suspect.member.connection;
        match timeout_at(deadline, self.fanout.services.close(connection)).await {
            Ok(ConnectionState::Open) => Post::of(End::Closed(connection.clone())),
            Ok(ConnectionState::Gone) => Post::of(End::Gone(connection.clone())),
            Ok(unclear) => self.unclear(suspect, unclear),
            Err(_) => suspect.stays(),
        }
    }

    /// Where there is no answer about a suspect, it is asked about again, unless there will never be one.
    fn unclear(&self, suspect: Suspect, existence: ConnectionState) -> Post {
        match existence {
            ConnectionState::Forbidden => return Post::of(End::Undelivered(Cause::Unconfirmed)),
            ConnectionState::Throttled => self.rate_limiter.refused(),
            ConnectionState::Open | ConnectionState::Gone | ConnectionState::Unknown => {}
        }
        suspect.later(self.fanout.services.random())
    }

    /// Waits until one more call may be made. False when the time is up.
    async fn is_admitted(&self, deadline: Instant) -> bool {
        timeout_at(deadline, self.rate_limiter.wait()).await.is_ok()
    }
}
