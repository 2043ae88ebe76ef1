//! Whether a message of a connection is carried out: how often messages may come, and how much one connection may be in.
//!
//! Both are noted in an item of the connection's own, with one conditional write for each message: whoever has been quiet, which
//! is nearly everybody, is admitted by it at once.
//!
//! | attribute | |
//! |---|---|
//! | `admitted_until` | until when its messages would have taken at the rate that is allowed (ms), see [`crate::allowance`] |
//! | `audiences` | the keys of all regions and rooms that it is in |
//! | `sources` | the keys of the audiences by which it is counted |
//! | `first_room` | the key of the room that it joined first, unless it has left that |
//! | `expires_at` | seconds since the Unix epoch |

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use crate::{
    allowance::Allowance,
    audience::{Audience, Room},
    clock::Timestamp,
    connection::ConnectionId,
    environment::Reader,
    error::{Code, Failure, Refusal},
    limits::{
        ADMISSION_ATTEMPTS_MAX, ADMISSION_PAUSE_MAX, MESSAGES_PER_SEC_DEFAULT, SUBSCRIPTION_TTL,
        SUBSCRIPTIONS_PER_CONNECTION_MAX,
    },
    subscriptions::{AUDIENCE, EXPIRES_AT, Key, SLOT, Subscriptions},
    table::{Item, jittered, number, read_number, text},
};

/// What a message changes of what its connection is in.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Nothing.
    None,
    /// It joins audiences: at least one, none of them twice.
    Join(&'a [Audience]),
    /// It leaves audiences: at least one, none of them twice.
    Leave(&'a [Audience]),
}

/// What a connection is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    audiences: BTreeSet<String>,
    /// The room that it joined first, unless it has left that.
    pub first_room: Option<Room>,
}

impl Memberships {
    /// Whether the connection is in an audience.
    pub fn contains(&self, audience: &Audience) -> bool {
        self.audiences.contains(audience.key())
    }

    fn of(item: &Item) -> Self {
        let audiences = item.get(AUDIENCES).and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default();
        let room = item.get(FIRST_ROOM).and_then(|value| value.as_s().ok());
        Self { audiences: audiences.into_iter().collect(), first_room: room.and_then(|key| Room::of_key(key)) }
    }

    /// How many audiences there are after a change.
    fn after(&self, change: Change<'_>) -> usize {
        match change {
            Change::None | Change::Leave(_) => self.audiences.len(),
            Change::Join(joined) => {
                self.audiences.len() + joined.iter().filter(|audience| !self.contains(audience)).count()
            }
        }
    }
}

const AUDIENCES: &str = "audiences";
const SOURCES: &str = "sources";
const FIRST_ROOM: &str = "first_room";
const ADMITTED_UNTIL: &str = "admitted_until";

/// What the partition keys of such items begin with.
const STATE_PREFIX: &str = "@connection#";

/// Their sort key.
const STATE: &str = "state";

/// How often messages of a connection may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRate(Allowance);

impl MessageRate {
    /// So many per second, and as many at once.
    pub fn per_second(count: u32) -> Option<Self> {
        Allowance::new(count, Duration::from_secs(1)).map(Self)
    }

    /// What a function's environment says in `MESSAGES_PER_SECOND`, 1 to 1,000.
    pub fn of_function(environment: &mut Reader<'_>) -> Self {
        let count = environment.parsed("MESSAGES_PER_SECOND", MESSAGES_PER_SEC_DEFAULT);
        Self::per_second(count).unwrap_or_else(|| {
            environment.problem("MESSAGES_PER_SECOND has to be 1 at least");
            Self(Allowance::ONE_A_SECOND)
        })
    }
}

impl Subscriptions {
    /// Admits a message and notes what it changes, or says why not; what then is written for each audience is the caller's. An item
    /// that is not there, as before the first message, is written.
    pub async fn admit(
        &self,
        connection: &ConnectionId,
        change: Change<'_>,
        rate: MessageRate,
    ) -> Result<Result<Memberships, Refusal>, Failure> {
        self.change(connection, change, Some(rate)).await
    }

    /// Notes what a message changes that has been admitted already, or says why it cannot be.
    pub async fn change(
        &self,
        connection: &ConnectionId,
        change: Change<'_>,
        rate: Option<MessageRate>,
    ) -> Result<Result<Memberships, Refusal>, Failure> {
        let doing = "admitting a message";
        let mut seen: Option<Item> = None;
        for attempt in 0..ADMISSION_ATTEMPTS_MAX {
            if attempt > 1 {
                tokio::time::sleep(jittered(ADMISSION_PAUSE_MAX)).await;
            }
            let now = self.clock().now();
            let until = seen.as_ref().and_then(admitted_until);
            let next = match rate {
                Some(MessageRate(allowance)) => match allowance.admit(until, now) {
                    Ok(next) => next,
                    Err(wait) => return Ok(Err(too_many(allowance, wait))),
                },
                // It only has to differ, for others to see that something was noted.
                None => until.map_or(now, |until| until.after(Duration::from_millis(1))),
            };
            if seen.as_ref().is_some_and(|item| Memberships::of(item).after(change) > SUBSCRIPTIONS_PER_CONNECTION_MAX)
            {
                let message = format!(
                    "a connection is in at most {SUBSCRIPTIONS_PER_CONNECTION_MAX} regions and rooms, leave some first"
                );
                return Ok(Err(Refusal::new(Code::LimitReached, message)));
            }
            let condition = match (&seen, until) {
                (None, _) => Condition::Quiet(now),
                (Some(_), None) => Condition::Unnoted,
                (Some(_), Some(until)) => Condition::As(until),
            };
            let noted = self.note(connection, change, next, condition).send().await;
            match noted.map_err(SdkError::into_service_error) {
                Ok(output) => {
                    let mut memberships = output.attributes.as_ref().map(Memberships::of).unwrap_or_default();
                    self.forget_first_room(connection, change, &mut memberships).await?;
                    return Ok(Ok(memberships));
                }
                Err(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    seen = Some(failed.item.unwrap_or_default());
                }
                Err(error) => return Err(Failure::new(doing, error)),
            }
        }
        // So many at the same moment that each was always behind another one.
        Ok(Err(too_many(rate.map_or(Allowance::ONE_A_SECOND, |MessageRate(allowance)| allowance), ADMISSION_PAUSE_MAX)))
    }

    /// What is noted of a connection when it opens, if anything is: it is in an audience, or counted with others.
    pub(crate) fn first_state(
        &self,
        connection: &ConnectionId,
        audience: Option<&Audience>,
        sources: &[Audience],
    ) -> Option<Item> {
        let (partition, sort) = Self::state_key(connection);
        let mut item = Item::from([
            (AUDIENCE.to_owned(), text(partition)),
            (SLOT.to_owned(), text(sort)),
            (EXPIRES_AT.to_owned(), number(self.clock().now().after(SUBSCRIPTION_TTL).secs())),
        ]);
        if let Some(audience) = audience {
            item.insert(AUDIENCES.to_owned(), keys(std::slice::from_ref(audience)));
        }
        if !sources.is_empty() {
            item.insert(SOURCES.to_owned(), keys(sources));
        }
        (audience.is_some() || !sources.is_empty()).then_some(item)
    }

    /// The key of what is noted of a connection.
    pub(crate) fn state_key(connection: &ConnectionId) -> Key {
        (format!("{STATE_PREFIX}{connection}"), STATE.to_owned())
    }

    /// What a connection is in, read consistently.
    pub async fn memberships(&self, connection: &ConnectionId) -> Result<Memberships, Failure> {
        self.state(connection).await.map(|item| Memberships::of(&item))
    }

    /// The keys of all audiences that are noted of a connection, read consistently.
    pub(crate) async fn noted_audiences(&self, connection: &ConnectionId) -> Result<Vec<String>, Failure> {
        let item = self.state(connection).await?;
        let keys = |name| item.get(name).and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default();
        Ok([keys(AUDIENCES), keys(SOURCES)].concat())
    }

    /// What is noted of a connection, and nothing if that is nothing.
    async fn state(&self, connection: &ConnectionId) -> Result<Item, Failure> {
        let (partition, sort) = Self::state_key(connection);
        let output = self
            .client()
            .get_item()
            .table_name(self.table())
            .key(AUDIENCE, text(partition))
            .key(SLOT, text(sort))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| Failure::new("reading what a connection is in", error))?;
        Ok(output.item.unwrap_or_default())
    }

    fn update_of(&self, connection: &ConnectionId) -> UpdateItemFluentBuilder {
        let (partition, sort) = Self::state_key(connection);
        let update = self.client().update_item().table_name(self.table());
        update.key(AUDIENCE, text(partition)).key(SLOT, text(sort))
    }

    fn note(
        &self,
        connection: &ConnectionId,
        change: Change<'_>,
        next: Timestamp,
        condition: Condition,
    ) -> UpdateItemFluentBuilder {
        let mut set = "SET admitted_until = :next, expires_at = :expires".to_owned();
        let mut rest = String::new();
        let expires = self.clock().now().after(SUBSCRIPTION_TTL);
        let mut update = self
            .update_of(connection)
            .expression_attribute_values(":next", number(next.millis()))
            .expression_attribute_values(":expires", number(expires.secs()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut conditions = match condition {
            Condition::Quiet(now) => {
                update = update.expression_attribute_values(":now", number(now.millis()));
                "(attribute_not_exists(admitted_until) OR admitted_until <= :now)".to_owned()
            }
            Condition::Unnoted => "attribute_not_exists(admitted_until)".to_owned(),
            Condition::As(until) => {
                update = update.expression_attribute_values(":until", number(until.millis()));
                "admitted_until = :until".to_owned()
            }
        };
        match change {
            Change::None => {}
            Change::Leave(left) => {
                rest = " DELETE audiences :audiences".to_owned();
                update = update.expression_attribute_values(":audiences", keys(left));
            }
            Change::Join(joined) => {
                rest = " ADD audiences :audiences".to_owned();
                update = update.expression_attribute_values(":audiences", keys(joined));
                if let Some(room) = joined.iter().find(|audience| matches!(audience, Audience::Room(_))) {
                    set += ", first_room = if_not_exists(first_room, :room)";
                    update = update.expression_attribute_values(":room", text(room.key()));
                }
                // Where the item has been seen, it is known that there is room.
                if let Condition::Quiet(_) = condition {
                    let before = SUBSCRIPTIONS_PER_CONNECTION_MAX.saturating_sub(joined.len());
                    conditions += " AND (attribute_not_exists(audiences) OR size(audiences) <= :before)";
                    update = update.expression_attribute_values(":before", number(before));
                }
            }
        }
        update.update_expression(set + &rest).condition_expression(conditions)
    }

    /// The room that was joined first is no default any more once it is left.
    async fn forget_first_room(
        &self,
        connection: &ConnectionId,
        change: Change<'_>,
        memberships: &mut Memberships,
    ) -> Result<(), Failure> {
        let Change::Leave(left) = change else { return Ok(()) };
        let Some(room) = memberships.first_room.clone().map(Audience::Room) else { return Ok(()) };
        if !left.contains(&room) {
            return Ok(());
        }
        let forgotten = self
            .update_of(connection)
            .update_expression("REMOVE first_room")
            .condition_expression("first_room = :room")
            .expression_attribute_values(":room", text(room.key()))
            .send()
            .await;
        memberships.first_room = None;
        match forgotten.map_err(SdkError::into_service_error) {
            // Another message has changed it meanwhile.
            Ok(_) | Err(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Err(error) => Err(Failure::new("forgetting a room", error)),
        }
    }
}

/// What has to be so for a message to be admitted.
#[derive(Clone, Copy, Debug)]
enum Condition {
    /// Nothing of the connection is running at this moment.
    Quiet(Timestamp),
    /// No message of it was noted.
    Unnoted,
    /// The last one was noted so.
    As(Timestamp),
}

fn too_many(allowance: Allowance, wait: Duration) -> Refusal {
    Refusal::rate_limited(&format!("{} messages per second", allowance.count()), wait)
}

fn admitted_until(item: &Item) -> Option<Timestamp> {
    read_number(item, ADMITTED_UNTIL).ok().map(Timestamp::from_millis)
}

fn keys(audiences: &[Audience]) -> AttributeValue {
    AttributeValue::Ss(audiences.iter().map(|audience| audience.key().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::Client;

    use super::*;
    use crate::{
        clock::Clock,
        fake_aws::{Answer, sdk},
    };

    fn connection() -> ConnectionId {
        "eHrdFcnvvHcCE-w=".parse().expect("an id")
    }

    /// The table, whose answers are all the same, and the requests that it gets.
    fn table(answer: &'static str) -> (Subscriptions, crate::fake_aws::Requests) {
        let (sdk, requests) = sdk(move |_| Answer(200, "", answer.to_owned()));
        (Subscriptions::new(Client::new(&sdk), "t".to_owned(), Clock::System), requests)
    }

    #[tokio::test]
    async fn what_the_index_does_not_have_yet_is_removed_with_the_rest() {
        // To the query of the index, nothing; to the question for the item, what is noted; to the batch, that all is done.
        let (table, requests) =
            table(r#"{"Items":[],"Item":{"audiences":{"SS":["PL","room#general"]},"sources":{"SS":["@user#1"]}}}"#);
        table.close(&connection()).await.expect("closed");
        let requests = requests.lock().expect("unpoisoned");
        let batch = requests.last().expect("a batch");
        for audience in ["PL", "room#general", "@user#1", "@everyone", "@connection#eHrdFcnvvHcCE-w="] {
            assert!(batch.contains(&format!(r#""audience":{{"S":"{audience}"}}"#)), "{audience}: {batch}");
        }
        assert_eq!(batch.matches("DeleteRequest").count(), 5, "{batch}");
    }

    #[test]
    fn what_a_connection_is_in_is_counted_once() {
        let room = Audience::Room(Room::default());
        let item = Item::from([
            (AUDIENCES.to_owned(), keys(&["PL".parse().expect("PL"), room.clone()])),
            (FIRST_ROOM.to_owned(), text(room.key())),
        ]);
        let memberships = Memberships::of(&item);
        assert!(memberships.contains(&room) && !memberships.contains(&Audience::All));
        assert_eq!(memberships.first_room, Some(Room::default()));
        assert_eq!(memberships.after(Change::Join(&[room.clone(), Audience::All])), 3);
        assert_eq!(memberships.after(Change::Leave(&[room])), 2);
        assert_eq!(Memberships::of(&Item::new()), Memberships::default());
    }
}
