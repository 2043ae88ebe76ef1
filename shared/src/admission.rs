//! Whether a message of a connection is carried out: how often messages may come, and how much one connection may be in.
//!
//! Both are noted in the connection's item in `@everyone`, with one conditional write for each message: whoever has been quiet, which
//! is nearly everybody, is admitted by it at once.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::{
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
    limits::{ADMISSION_ATTEMPTS_MAX, MESSAGES_PER_SEC_DEFAULT, SUBSCRIPTIONS_PER_CONNECTION_MAX},
    subscriptions::Subscriptions,
    table::{Item, number, read_number, text},
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

/// Attribute with the keys of all audiences that a connection is in, but for `@everyone`.
pub(crate) const AUDIENCES: &str = "audiences";

/// Attribute with the key of the room that it joined first.
const FIRST_ROOM: &str = "first_room";

/// Attribute with the moment until when its messages would have taken at the rate that is allowed, in milliseconds.
const ADMITTED_UNTIL: &str = "admitted_until";

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

/// Other messages of the same connection were noted at every attempt.
#[derive(Debug, thiserror::Error)]
#[error("other messages of the connection were noted at each of {ADMISSION_ATTEMPTS_MAX} attempts")]
struct Contended;

impl Subscriptions {
    /// Admits a message and notes what it changes, or says why not; what then is written for each audience is the caller's. An item
    /// that is not there any more, because the connection was taken for gone, is written anew.
    pub async fn admit(
        &self,
        connection: &ConnectionId,
        change: Change<'_>,
        rate: MessageRate,
    ) -> Result<Result<Memberships, Refusal>, Failure> {
        let doing = "admitting a message";
        let MessageRate(allowance) = rate;
        let mut seen: Option<Item> = None;
        for _ in 0..ADMISSION_ATTEMPTS_MAX {
            let now = self.clock().now();
            let until = seen.as_ref().and_then(admitted_until);
            let next = match allowance.admit(until, now) {
                Ok(next) => next,
                Err(wait) => {
                    let allowed = format!("{} messages per second", allowance.count());
                    return Ok(Err(Refusal::rate_limited(&allowed, wait)));
                }
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
            match noted.map_err(aws_sdk_dynamodb::error::SdkError::into_service_error) {
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
        Err(Failure::new(doing, Contended))
    }

    fn note(
        &self,
        connection: &ConnectionId,
        change: Change<'_>,
        next: Timestamp,
        condition: Condition,
    ) -> UpdateItemFluentBuilder {
        let mut set = "SET admitted_until = :next".to_owned();
        let mut rest = String::new();
        let mut update = self
            .update_of(connection)
            .expression_attribute_values(":next", number(next.millis()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, value) in self.everyone_of(connection) {
            set += &format!(", #{name} = if_not_exists(#{name}, :{name})");
            update = update
                .expression_attribute_names(format!("#{name}"), &name)
                .expression_attribute_values(format!(":{name}"), value);
        }
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
        match forgotten.map_err(aws_sdk_dynamodb::error::SdkError::into_service_error) {
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

fn admitted_until(item: &Item) -> Option<Timestamp> {
    read_number(item, ADMITTED_UNTIL).ok().map(Timestamp::from_millis)
}

fn keys(audiences: &[Audience]) -> AttributeValue {
    AttributeValue::Ss(audiences.iter().map(|audience| audience.key().to_owned()).collect())
}
