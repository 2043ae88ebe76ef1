//! Seats: how many connections there may be at once from one address, or of one user.
//!
//! Where there is a limit, each connection holds one of as many numbered seats. It reads which are taken and takes a
//! free one by a conditional write, so no seat is ever held twice, and a write that fails means that somebody else got
//! in: of any number that come at once, exactly as many get in as there are seats. A seat is an item of the
//! subscriptions table:
//!
//! | attribute | value |
//! |---|---|
//! | `audience` (partition) | [`ConnectionQuotaKey::key`]: `@address#…` or `@user#…` |
//! | `slot` (sort) | `seat#0001` and so on, from 1 to the limit |
//! | `connection_id` | who holds it |
//! | `expires_at` | seconds since the Unix epoch; from then on it is free |

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{delete_item::DeleteItemError, put_item::PutItemError},
};

use crate::{
    error::{ApiError, InternalError},
    limits::SUBSCRIPTION_TTL,
    model::{
        audience::ConnectionQuotaKey,
        connect_request::{ConnectRequest, ConnectionLimit},
        connection::{Connection, ConnectionId, Slot},
    },
    tables::{
        dynamodb::{number, read_number, read_text, text},
        subscriptions::{
            Subscriptions,
            schema::{AUDIENCE, CONNECTION_ID, EXPIRES_AT, Key, SLOT},
        },
    },
};

/// What the sort keys of seats begin with.
const SEAT_PREFIX: &str = "seat#";

/// Digits of a number in such a key.
const DIGITS: usize = 4;

/// One of the connections that there may be from one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    source: ConnectionQuotaKey,
    /// From 1 on.
    number: u32,
}

/// A text that names no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid seat: expected {DIGITS} digits and the key of a source")]
pub struct InvalidSeat;

impl Seat {
    /// Partition and sort key.
    fn key(&self) -> Key {
        (self.source.key().to_owned(), format!("{SEAT_PREFIX}{:0DIGITS$}", self.number))
    }

    /// The seat at a key, if it is one of a seat.
    pub(crate) fn of_key((partition, sort): &Key) -> Option<Self> {
        let number = sort.strip_prefix(SEAT_PREFIX)?.parse().ok()?;
        Some(Self { source: ConnectionQuotaKey::of_key(partition)?, number })
    }
}

/// As it is noted in the state of a connection.
impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$}{}", self.number, self.source.key())
    }
}

impl FromStr for Seat {
    type Err = InvalidSeat;

    fn from_str(text: &str) -> Result<Self, InvalidSeat> {
        let (number, source) = text.split_at_checked(DIGITS).ok_or(InvalidSeat)?;
        let source = ConnectionQuotaKey::of_key(source).ok_or(InvalidSeat)?;
        Ok(Self { source, number: number.parse().map_err(|_| InvalidSeat)? })
    }
}

/// A limit that a new connection has to keep, and how far it has come.
struct Search<'a> {
    limit: &'a ConnectionLimit,
    /// Numbers that others hold.
    taken: BTreeSet<u32>,
    /// What it holds, or tries to take.
    seat: Option<Seat>,
    is_held: bool,
}

impl Search<'_> {
    /// Chooses a free seat by a hash: those who come at the same moment seldom choose the same. False where there is
    /// none.
    fn choose(&mut self, hash: u32) -> bool {
        let is_full = u32::try_from(self.taken.len()).unwrap_or(u32::MAX) >= self.limit.max;
        let free: Vec<u32> = (1..=self.limit.max).filter(|number| !self.taken.contains(number)).collect();
        let index = hash as usize % free.len().max(1);
        let number = if is_full { None } else { free.get(index).copied() };
        self.seat = number.map(|number| Seat { source: self.limit.source().clone(), number });
        self.seat.is_some()
    }
}

/// What became of a connection that looks for its seats.
pub(crate) enum Seated {
    /// It has those that it needs, and they are noted.
    Yes(Vec<Seat>),
    /// There is none, and nothing was written.
    Full(ApiError),
    /// It cannot have them. Something was noted, and it may hold those that are named.
    No(ApiError, Vec<Seat>),
}

impl Subscriptions {
    /// Takes a seat for each limit of a new connection. What is tried is noted before it is taken, with the first
    /// subscription.
    ///
    /// Each round either ends it or has found a seat to be taken since it was read, so there are as many as there are
    /// seats at most.
    pub(crate) async fn take_seats(&self, request: &ConnectRequest) -> Result<Seated, InternalError> {
        let ConnectRequest { connection, audience, format, bounds, .. } = request;
        let mut searches = Vec::with_capacity(bounds.len());
        for limit in bounds {
            searches.push(Search { limit, taken: self.taken_seats(limit).await?, seat: None, is_held: false });
        }
        let hash = Slot::of(&connection.id).hash();
        let rounds: u32 = bounds.iter().map(|limit| limit.max).fold(1, u32::saturating_add);
        for round in 0..rounds {
            if let Some(full) =
                searches.iter_mut().find_map(|search| (!search.is_held && !search.choose(hash)).then_some(search))
            {
                let refusal = full.limit.refusal();
                return Ok(if round == 0 { Seated::Full(refusal) } else { Seated::No(refusal, tried(&searches)) });
            }
            let seats: Vec<Seat> = searches.iter().filter_map(|search| search.seat.clone()).collect();
            if (audience.is_some() || !seats.is_empty())
                && !self.note_opening(connection, audience.as_ref().map(|audience| (audience, *format)), &seats).await?
            {
                return Ok(Seated::No(ApiError::connection_closed(), tried(&searches)));
            }
            for search in searches.iter_mut().filter(|search| !search.is_held) {
                let Some(seat) = &search.seat else { continue };
                search.is_held = self.sit(seat, connection).await?;
                if !search.is_held {
                    // Somebody else got in. Others may have, too.
                    search.taken.insert(seat.number);
                    search.taken.append(&mut self.taken_seats(search.limit).await?);
                }
            }
            if searches.iter().all(|search| search.is_held) {
                return Ok(Seated::Yes(seats));
            }
        }
        Ok(Seated::No(ApiError::unavailable(), tried(&searches)))
    }

    /// The numbers of the seats that are taken.
    async fn taken_seats(&self, limit: &ConnectionLimit) -> Result<BTreeSet<u32>, InternalError> {
        let doing = "reading which seats are taken";
        let page = self
            .client()
            .query()
            .table_name(self.table())
            .consistent_read(true)
            .key_condition_expression("audience = :source AND begins_with(slot, :seat)")
            .expression_attribute_values(":source", text(limit.source().key()))
            .expression_attribute_values(":seat", text(SEAT_PREFIX))
            .projection_expression("slot, expires_at")
            .send()
            .await
            .map_err(|error| InternalError::new(doing, error))?;
        let now = self.clock().now().secs();
        let taken = page.items().iter().filter(|item| read_number::<i64>(item, EXPIRES_AT).is_ok_and(|at| at > now));
        let number = |sort: &str| sort.strip_prefix(SEAT_PREFIX)?.parse().ok();
        Ok(taken.filter_map(|item| read_text(item, SLOT).ok().and_then(number)).collect())
    }

    /// Takes a seat. False where somebody else holds it.
    async fn sit(&self, seat: &Seat, connection: &Connection) -> Result<bool, InternalError> {
        let (partition, sort) = seat.key();
        let put = self
            .client()
            .put_item()
            .table_name(self.table())
            .item(AUDIENCE, text(partition))
            .item(SLOT, text(sort))
            .item(CONNECTION_ID, text(connection.id.as_str()))
            .item(EXPIRES_AT, number(connection.since.after(SUBSCRIPTION_TTL).secs()))
            // Its own is there already where the answer to the first attempt was lost.
            .condition_expression("attribute_not_exists(slot) OR expires_at <= :now OR connection_id = :connection")
            .expression_attribute_values(":now", number(self.clock().now().secs()))
            .expression_attribute_values(":connection", text(connection.id.as_str()))
            .send()
            .await;
        match put.map_err(SdkError::into_service_error) {
            Ok(_) => Ok(true),
            Err(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(InternalError::new("taking a seat", error)),
        }
    }

    /// Leaves a seat, if the connection holds it.
    pub(crate) async fn stand_up(&self, seat: &Seat, connection: &ConnectionId) -> Result<(), InternalError> {
        let (partition, sort) = seat.key();
        let deleted = self
            .client()
            .delete_item()
            .table_name(self.table())
            .key(AUDIENCE, text(partition))
            .key(SLOT, text(sort))
            .condition_expression("connection_id = :connection")
            .expression_attribute_values(":connection", text(connection.as_str()))
            .send()
            .await;
        match deleted.map_err(SdkError::into_service_error) {
            Ok(_) | Err(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Err(error) => Err(InternalError::new("leaving a seat", error)),
        }
    }
}

fn tried(searches: &[Search<'_>]) -> Vec<Seat> {
    searches.iter().filter_map(|search| search.seat.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_read_as_it_was_written() {
        for source in [
            ConnectionQuotaKey::of_address("2001:db8::1".parse().expect("an address")),
            ConnectionQuotaKey::of_user("ola"),
        ] {
            let seat = Seat { source, number: 7 };
            assert_eq!(seat.to_string().parse(), Ok(seat.clone()));
            assert_eq!(Seat::of_key(&seat.key()), Some(seat));
        }
        for text in ["", "000", "0001", "x001@user#1", "0001PL", "ż01@user#1"] {
            assert_eq!(text.parse::<Seat>(), Err(InvalidSeat), "{text}");
        }
        assert_eq!(Seat::of_key(&("PL".to_owned(), "c1df14eeeHrdFcnvvHcCE-w=".to_owned())), None);
    }
}
