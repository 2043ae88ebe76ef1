//! The state of a connection: how much it may send and change, what it is in, and whether it has closed.
//!
//! All of it is one item of the connection's own. A message is admitted by one conditional write, which takes its
//! charges, notes what it changes, and fails where the connection has closed. Nearly all messages are admitted by the
//! first one.
//!
//! | attribute | |
//! |---|---|
//! | `messages_until`, `changes_until` | what is used of two allowances (ns), see [`crate::model::rate_limit`] |
//! | `audiences` | the keys of all regions and rooms that it is in |
//! | `new_trending` | the keys of those among them whose alerts arrive in that form |
//! | `seats` | the seats that it has or is about to take, see [`crate::tables::subscriptions::seats`] |
//! | `first_room` | the key of the room that it joined first, unless it has left that |
//! | `closed` | when it closed (ms); of the above only `audiences` and `seats` remain |
//! | `expires_at` | seconds since the Unix epoch |
//!
//! # A closed connection leaves nothing behind
//!
//! `$connect`, `$disconnect` and messages run at the same moment and in any order. Three rules make sure that nothing
//! is left:
//!
//! 1. What writes an item notes it here first, on condition that the connection has not closed.
//! 2. Closing sets `closed`, which returns what is noted, and then deletes that. What is noted stays beside the mark:
//!    where the answer is lost, or the function dies before it has deleted everything, the next close deletes the rest.
//! 3. What has written an item looks here again. Where the connection has closed meanwhile, it deletes the item.
//!
//! So either the close comes first, and the writer sees it, or the note does, and the close sees that. What messages
//! join and leave at the same moment is decided here too: whoever has written an item looks what is noted now, and
//! writes that if it is something else.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use clock::Timestamp;

use crate::{
    error::{ApiError, Code, Decision, InternalError},
    limits::{
        ADMISSION_ATTEMPTS_MAX, ADMISSION_PAUSE_MAX, CHANGE_EVERY, CHANGES_AT_ONCE, CLOSED_MARK_TTL,
        MESSAGES_PER_SEC_DEFAULT, MESSAGES_PER_SEC_MAX, RECOVERED_REGIONS_MAX, REGIONS_PER_MESSAGE_MAX,
        SUBSCRIPTION_TTL, SUBSCRIPTIONS_PER_CONNECTION_MAX,
    },
    model::{
        alert::Format,
        audience::{Audience, Room},
        connection::{Connection, ConnectionId},
        rate_limit::{Charge, RateLimit, Step},
    },
    runtime::{backoff::jittered, environment::Reader},
    tables::{
        dynamodb::{Item, number, read_number, text},
        subscriptions::{
            Subscriptions,
            schema::{AUDIENCE, EXPIRES_AT, Key, SLOT},
            seats::Seat,
        },
    },
};

/// What a message changes of what its connection is in.
#[derive(Clone, Copy, Debug)]
pub enum MembershipChange<'a> {
    None,
    /// It joins audiences, or changes the form of their alerts: at least one, none of them twice.
    Join(&'a [Audience], Format),
    /// It leaves audiences: at least one, none of them twice.
    Leave(&'a [Audience]),
}

impl MembershipChange<'_> {
    /// How many audiences it joins or leaves.
    fn len(self) -> u32 {
        match self {
            MembershipChange::None => 0,
            MembershipChange::Join(audiences, _) | MembershipChange::Leave(audiences) => {
                u32::try_from(audiences.len()).unwrap_or(u32::MAX)
            }
        }
    }

    /// What of the allowance of changes it takes.
    fn cost(self, charged: Charged) -> u32 {
        match (charged, self) {
            (Charged::Resumption(_), MembershipChange::Join(audiences, _)) if audiences.contains(&Audience::All) => {
                self.len() - 1 + RECOVERED_REGIONS
            }
            _ => self.len(),
        }
    }
}

/// Regions of which one answer carries missed alerts.
const RECOVERED_REGIONS: u32 = RECOVERED_REGIONS_MAX as u32;

const _: () = assert!(REGIONS_PER_MESSAGE_MAX as u32 + RECOVERED_REGIONS <= CHANGES_AT_ONCE, "any message can pass");

/// What is taken from the allowances of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Charged {
    /// A message, and what it changes.
    Message(MessageRate),
    /// A message that asks for what was missed too. `ALL` counts as all the regions of which its answer may carry
    /// alerts.
    Resumption(MessageRate),
    /// What a message changes that has been admitted already.
    Change,
}

/// What a connection is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    audiences: BTreeSet<String>,
    /// Those of them whose alerts arrive as [`Format::NewTrending`].
    trending: BTreeSet<String>,
    /// The room that it joined first, unless it has left that.
    pub first_room: Option<Room>,
}

impl Memberships {
    /// Whether the connection is in an audience.
    pub fn contains(&self, audience: &Audience) -> bool {
        self.audiences.contains(audience.key())
    }

    /// In which form the alerts of an audience arrive. None where the connection is not in it.
    pub(crate) fn format_in(&self, audience: &Audience) -> Option<Format> {
        let is_trending = self.trending.contains(audience.key());
        self.contains(audience).then_some(if is_trending { Format::NewTrending } else { Format::ViralAlert })
    }

    fn of(item: &Item) -> Self {
        let room = item.get(FIRST_ROOM).and_then(|value| value.as_s().ok());
        Self {
            audiences: texts(item, AUDIENCES).into_iter().collect(),
            trending: texts(item, TRENDING).into_iter().collect(),
            first_room: room.and_then(|key| Room::of_key(key)),
        }
    }

    /// How many audiences there are after a change.
    fn after(&self, change: MembershipChange<'_>) -> usize {
        match change {
            MembershipChange::None | MembershipChange::Leave(_) => self.audiences.len(),
            MembershipChange::Join(joined, _) => {
                self.audiences.len() + joined.iter().filter(|audience| !self.contains(audience)).count()
            }
        }
    }
}

/// What is known of a connection when its state is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedState {
    /// It is open, or about to open.
    Open(Memberships),
    /// It has closed, and nothing may be written for it.
    Closed,
}

/// What was noted of a connection when it closed: what it leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The keys of audiences.
    pub audiences: Vec<String>,
    /// Seats that it may have.
    pub seats: Vec<Seat>,
}

const AUDIENCES: &str = "audiences";
const TRENDING: &str = "new_trending";
const SEATS: &str = "seats";
const FIRST_ROOM: &str = "first_room";
const MESSAGES_UNTIL: &str = "messages_until";
const CHANGES_UNTIL: &str = "changes_until";
const CLOSED: &str = "closed";

/// What the partition keys of such items begin with.
const STATE_PREFIX: &str = "@connection#";

/// Their sort key.
const STATE: &str = "state";

/// Condition of every write but that of the mark.
const IS_OPEN: &str = "attribute_not_exists(closed)";

/// How often messages of a connection may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRate(RateLimit);

impl MessageRate {
    /// So many per second, and as many at once.
    pub fn per_second(count: u32) -> Option<Self> {
        RateLimit::new(count, Duration::from_secs(1)).map(Self)
    }

    /// What a function's environment says in `MESSAGES_PER_SECOND`, 1 to 1,000.
    pub fn from_env(environment: &mut Reader<'_>) -> Self {
        let range = 1..=MESSAGES_PER_SEC_MAX;
        let count = environment.whole_number("MESSAGES_PER_SECOND", MESSAGES_PER_SEC_DEFAULT, range);
        Self::per_second(count).unwrap_or(Self(RateLimit::ONE_A_SECOND))
    }
}

/// One allowance of a connection that is charged.
#[derive(Clone, Copy, Debug)]
struct RateLimitCharge {
    attribute: &'static str,
    charge: Charge,
    count: u32,
    /// What the count is of, for a person to read.
    of: &'static str,
}

/// What a charge and a change are charged from, at one moment.
fn bills(charged: Charged, change: MembershipChange<'_>, now: Timestamp) -> Vec<RateLimitCharge> {
    let mut bills = Vec::new();
    if let Charged::Message(MessageRate(rate_limit)) | Charged::Resumption(MessageRate(rate_limit)) = charged {
        let charge = rate_limit.charge(1, now);
        bills.push(RateLimitCharge {
            attribute: MESSAGES_UNTIL,
            charge,
            count: rate_limit.count(),
            of: "messages per second",
        });
    }
    let cost = change.cost(charged);
    if cost > 0 {
        let rate_limit = RateLimit::new(CHANGES_AT_ONCE, CHANGE_EVERY * CHANGES_AT_ONCE);
        let rate_limit = rate_limit.unwrap_or(RateLimit::ONE_A_SECOND);
        let charge = rate_limit.charge(cost, now);
        let of = "regions and rooms joined and left at once, and one more each second";
        bills.push(RateLimitCharge { attribute: CHANGES_UNTIL, charge, count: rate_limit.count(), of });
    }
    bills
}

/// What to write for charges, by attribute.
type Writes = Vec<(&'static str, Step)>;

/// What to write for some bills of a connection of which `seen` is known, or why it has to wait: for the longest of
/// them.
fn steps(bills: &[RateLimitCharge], seen: Option<&Item>) -> Result<Writes, ApiError> {
    let (mut steps, mut refused) = (Vec::new(), None::<(Duration, ApiError)>);
    for &RateLimitCharge { attribute, charge, count, of } in bills {
        match charge.step(seen.and_then(|item| read_number(item, attribute).ok())) {
            Ok(step) => steps.push((attribute, step)),
            Err(wait) if refused.as_ref().is_some_and(|(longest, _)| *longest >= wait) => {}
            Err(wait) => refused = Some((wait, ApiError::rate_limited(&format!("{count} {of}"), wait))),
        }
    }
    refused.map_or(Ok(steps), |(_, refusal)| Err(refusal))
}

/// Returns the charges that pass, and what to write for them. Messages of one moment may be charged in another order
/// than that in which they came, so a charge that does not pass is made once more, at the present time.
fn passing(
    charges: Vec<RateLimitCharge>,
    again: impl FnOnce() -> Vec<RateLimitCharge>,
    seen: Option<&Item>,
) -> Result<(Vec<RateLimitCharge>, Writes), ApiError> {
    if let Ok(writes) = steps(&charges, seen) {
        return Ok((charges, writes));
    }
    let charges = again();
    let writes = steps(&charges, seen)?;
    Ok((charges, writes))
}

impl Subscriptions {
    /// Charges a connection for a message or a change, and notes the change, or says why not. What then is written for
    /// each audience is the caller's. The item is written if it is not there, as before the first message.
    pub async fn admit(
        &self,
        connection: &Connection,
        change: MembershipChange<'_>,
        charged: Charged,
    ) -> Decision<Memberships> {
        let mut charges = bills(charged, change, self.clock().now());
        let mut seen: Option<Item> = None;
        for attempt in 0..ADMISSION_ATTEMPTS_MAX {
            // The second one knows what the first one has seen.
            if attempt > 1 {
                tokio::time::sleep(jittered(ADMISSION_PAUSE_MAX)).await;
            }
            if seen.as_ref().is_some_and(|item| item.contains_key(CLOSED)) {
                return Ok(Err(ApiError::connection_closed()));
            }
            let again = || bills(charged, change, self.clock().now());
            let writes = match passing(charges, again, seen.as_ref()) {
                Ok((passed, writes)) => {
                    charges = passed;
                    writes
                }
                Err(refusal) => return Ok(Err(refusal)),
            };
            let before = seen.as_ref().map(Memberships::of);
            if before.as_ref().is_some_and(|before| before.after(change) > SUBSCRIPTIONS_PER_CONNECTION_MAX) {
                let message = format!(
                    "a connection is in at most {SUBSCRIPTIONS_PER_CONNECTION_MAX} regions and rooms, leave some first"
                );
                return Ok(Err(ApiError::new(Code::LimitReached, message)));
            }
            let noted = self.note(connection, change, writes, before.as_ref()).send().await;
            match noted.map_err(SdkError::into_service_error) {
                Ok(output) => {
                    let mut memberships = output.attributes.as_ref().map(Memberships::of).unwrap_or_default();
                    self.forget_first_room(&connection.id, change, &mut memberships).await?;
                    return Ok(Ok(memberships));
                }
                Err(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    seen = Some(failed.item.unwrap_or_default());
                }
                Err(error) => return Err(InternalError::new("admitting a message", error)),
            }
        }
        // Other messages of the connection changed what it is in between all of them.
        Ok(Err(ApiError::rate_limited("a few messages at once that join and leave", ADMISSION_PAUSE_MAX)))
    }

    /// Notes what a connection is in and where it sits when it opens. False where it has closed already.
    pub(crate) async fn note_opening(
        &self,
        connection: &Connection,
        audience: Option<(&Audience, Format)>,
        seats: &[Seat],
    ) -> Result<bool, InternalError> {
        let mut expression = "SET expires_at = :expires".to_owned();
        let mut update = self
            .update_of(&connection.id)
            .condition_expression(IS_OPEN)
            .expression_attribute_values(":expires", number(connection.since.after(SUBSCRIPTION_TTL).secs()));
        if !seats.is_empty() {
            expression += ", seats = :seats";
            let seats = seats.iter().map(Seat::to_string).collect();
            update = update.expression_attribute_values(":seats", AttributeValue::Ss(seats));
        }
        if let Some((audience, format)) = audience {
            expression += joining(format);
            update = update.expression_attribute_values(":audiences", keys(std::slice::from_ref(audience)));
        }
        let noted = update.update_expression(expression).send().await;
        match noted.map_err(SdkError::into_service_error) {
            Ok(_) => Ok(true),
            Err(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(InternalError::new("noting a new connection", error)),
        }
    }

    /// Marks a connection as closed, and returns what was noted of it, also when it was marked before.
    pub(crate) async fn mark_closed(&self, connection: &ConnectionId) -> Result<Noted, InternalError> {
        let now = self.clock().now();
        let output = self
            .update_of(connection)
            .update_expression(format!(
                "SET closed = :now, expires_at = :expires \
                 REMOVE {TRENDING}, first_room, {MESSAGES_UNTIL}, {CHANGES_UNTIL}"
            ))
            .expression_attribute_values(":now", number(now.millis()))
            .expression_attribute_values(":expires", number(now.after(CLOSED_MARK_TTL).secs()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| InternalError::new("marking a connection as closed", error))?;
        let item = output.attributes.unwrap_or_default();
        let seats = texts(&item, SEATS).iter().filter_map(|seat| seat.parse().ok()).collect();
        Ok(Noted { audiences: texts(&item, AUDIENCES), seats })
    }

    /// The key of what is noted of a connection.
    pub(crate) fn state_key(connection: &ConnectionId) -> Key {
        (format!("{STATE_PREFIX}{connection}"), STATE.to_owned())
    }

    /// The state of a connection, read consistently.
    pub async fn state(&self, connection: &ConnectionId) -> Result<RecordedState, InternalError> {
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
            .map_err(|error| InternalError::new("reading the state of a connection", error))?;
        let item = output.item.unwrap_or_default();
        Ok(if item.contains_key(CLOSED) { RecordedState::Closed } else { RecordedState::Open(Memberships::of(&item)) })
    }

    fn update_of(&self, connection: &ConnectionId) -> UpdateItemFluentBuilder {
        let (partition, sort) = Self::state_key(connection);
        let update = self.client().update_item().table_name(self.table());
        update.key(AUDIENCE, text(partition)).key(SLOT, text(sort))
    }

    fn note(
        &self,
        connection: &Connection,
        change: MembershipChange<'_>,
        steps: Writes,
        before: Option<&Memberships>,
    ) -> UpdateItemFluentBuilder {
        let mut set = format!("SET {EXPIRES_AT} = :expires");
        let mut rest = "";
        let mut conditions = IS_OPEN.to_owned();
        let mut update = self
            .update_of(&connection.id)
            .expression_attribute_values(":expires", number(connection.since.after(SUBSCRIPTION_TTL).secs()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (attribute, step) in steps {
            let write = step.write(attribute);
            set += &format!(", {}", write.set);
            conditions += &format!(" AND {}", write.condition);
            for (name, value) in write.values {
                update = update.expression_attribute_values(name, number(value));
            }
        }
        match change {
            MembershipChange::None => {}
            MembershipChange::Leave(left) => {
                rest = " DELETE audiences :audiences, new_trending :audiences";
                update = update.expression_attribute_values(":audiences", keys(left));
            }
            MembershipChange::Join(joined, format) => {
                rest = joining(format);
                update = update.expression_attribute_values(":audiences", keys(joined));
                if let Some(room) = joined.iter().find(|audience| matches!(audience, Audience::Room(_))) {
                    set += ", first_room = if_not_exists(first_room, :room)";
                    update = update.expression_attribute_values(":room", text(room.key()));
                }
                let (condition, values) = within_limit(joined, before);
                conditions += &condition;
                for (name, value) in values {
                    update = update.expression_attribute_values(name, value);
                }
            }
        }
        update.update_expression(set + rest).condition_expression(conditions)
    }

    /// The room that was joined first stops being the default once it is left.
    async fn forget_first_room(
        &self,
        connection: &ConnectionId,
        change: MembershipChange<'_>,
        memberships: &mut Memberships,
    ) -> Result<(), InternalError> {
        let MembershipChange::Leave(left) = change else { return Ok(()) };
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
            Err(error) => Err(InternalError::new("forgetting a room", error)),
        }
    }
}

/// The clauses that note audiences whose alerts arrive in a form.
fn joining(format: Format) -> &'static str {
    match format {
        Format::ViralAlert => " ADD audiences :audiences DELETE new_trending :audiences",
        Format::NewTrending => " ADD audiences :audiences, new_trending :audiences",
    }
}

/// The condition that a connection is in as many audiences as it may be once it has joined some. Each of them counts as
/// new, unless that would be too many: those that it is known to be in then have to be there still.
fn within_limit(joined: &[Audience], before: Option<&Memberships>) -> (String, Vec<(String, AttributeValue)>) {
    let known = before.filter(|before| before.audiences.len() + joined.len() > SUBSCRIPTIONS_PER_CONNECTION_MAX);
    let known: Vec<&Audience> =
        known.map_or(Vec::new(), |before| joined.iter().filter(|audience| before.contains(audience)).collect());
    let most = SUBSCRIPTIONS_PER_CONNECTION_MAX.saturating_sub(joined.len() - known.len());
    let mut condition = " AND (attribute_not_exists(audiences) OR size(audiences) <= :most)".to_owned();
    let mut values = vec![(":most".to_owned(), number(most))];
    for (index, audience) in known.into_iter().enumerate() {
        condition += &format!(" AND contains(audiences, :known{index})");
        values.push((format!(":known{index}"), text(audience.key())));
    }
    (condition, values)
}

fn texts(item: &Item, attribute: &str) -> Vec<String> {
    item.get(attribute).and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default()
}

fn keys(audiences: &[Audience]) -> AttributeValue {
    AttributeValue::Ss(audiences.iter().map(|audience| audience.key().to_owned()).collect())
}

#[cfg(test)]
mod tests;
