//! An audience of millions in little memory: 16 bytes for each connection, in the order of slots.

use clock::Timestamp;
use shared::{
    limits::AUDIENCE_PAGE_ITEMS,
    model::{
        alert::Format,
        connection::{ConnectionId, Slot, SlotRange},
        member::{AudiencePage, Member},
    },
};

/// The subscribers of the region.
pub(crate) struct Ring {
    /// Hash and number of each connection, ascending.
    members: Vec<(u32, u32)>,
}

impl Ring {
    pub(crate) fn of(size: u32) -> Self {
        let mut members: Vec<_> = (0..size).map(|number| (Slot::of(&connection(number)).hash(), number)).collect();
        members.sort_unstable();
        Self { members }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns one page of a query.
    pub(crate) fn page(&self, range: SlotRange, after: Option<&Slot>) -> AudiencePage {
        let from = match after {
            Some(slot) => {
                self.members.partition_point(|member| *member <= (slot.hash(), number_of(&slot.as_str()[8..])))
            }
            None => self.members.partition_point(|(hash, _)| *hash < range.first),
        };
        let to = self.members.partition_point(|(hash, _)| *hash <= range.last);
        let end = to.min(from + usize::try_from(AUDIENCE_PAGE_ITEMS).unwrap_or(usize::MAX));
        let page = self.members.get(from..end).unwrap_or_default();
        let next = page.last().filter(|_| end < to).map(|(_, number)| Slot::of(&connection(*number)));
        AudiencePage { members: page.iter().map(|(_, number)| member(*number)).collect(), next }
    }
}

fn member(number: u32) -> Member {
    Member { connection: connection(number), format: Format::ViralAlert, since: Timestamp::from_millis(0) }
}

/// Makes an id as long as those of API Gateway.
fn connection(number: u32) -> ConnectionId {
    format!("{number:016}").parse().unwrap_or_else(|error| unreachable!("{error}"))
}

pub(crate) fn number_of(connection: &str) -> u32 {
    connection.parse().unwrap_or_else(|error| unreachable!("{connection}: {error}"))
}
