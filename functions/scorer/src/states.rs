//! The scores table: one item a region.
//!
//! | attribute | |
//! |---|---|
//! | `region` (partition key) | the region's name |
//! | `rises` | what is known of it, as JSON ([`Rises`]) |
//! | `version` | counts writes; one goes through only if nobody else has written since the read |
//! | `expires_at` | time to live |

use crate::rises::Rises;
use aws_sdk_dynamodb::Client;
use clock::Clock;
use shared::{
    error::InternalError,
    limits::SCORES_TTL,
    model::audience::Region,
    tables::dynamodb::{UnreadableItem, number, read_number, read_text, text},
};

/// Reads and writes what is known of regions.
#[derive(Clone, Debug)]
pub(crate) struct States {
    client: Client,
    table: String,
    clock: Clock,
}

/// What is known of a region, and when it was read.
#[derive(Debug, Default)]
pub(crate) struct RegionState {
    pub(crate) rises: Rises,
    /// None when there is no item.
    version: Option<u64>,
}

impl States {
    pub(crate) fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { client, table, clock }
    }

    /// What is known of a region; nothing when it is new.
    pub(crate) async fn get(&self, region: &Region) -> Result<RegionState, InternalError> {
        let doing = "reading what is known of a region";
        let get = self.client.get_item().table_name(&self.table).key("region", text(region.as_str()));
        let output = get.consistent_read(true).send().await.map_err(|error| InternalError::new(doing, error))?;
        let Some(item) = output.item else { return Ok(RegionState::default()) };
        let unreadable = |error: UnreadableItem| InternalError::new(doing, error);
        let rises = read_text(&item, "rises").map_err(unreadable)?;
        Ok(RegionState {
            rises: serde_json::from_str(rises).map_err(|error| InternalError::new(doing, error))?,
            version: Some(read_number(&item, "version").map_err(unreadable)?),
        })
    }

    /// Stores it, unless another invocation has stored something since it was read.
    pub(crate) async fn put(&self, region: &Region, state: &mut RegionState) -> Result<(), InternalError> {
        let doing = "storing what is known of a region";
        let rises = serde_json::to_string(&state.rises).map_err(|error| InternalError::new(doing, error))?;
        let version = state.version.map_or(1, |version| version + 1);
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("region", text(region.as_str()))
            .item("rises", text(rises))
            .item("version", number(version))
            .item("expires_at", number(self.clock.now().after(SCORES_TTL).secs()));
        let put = match state.version {
            // A reserved word of DynamoDB.
            None => put
                .condition_expression("attribute_not_exists(#region)")
                .expression_attribute_names("#region", "region"),
            Some(read) => put
                .condition_expression("#version = :read")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":read", number(read)),
        };
        put.send().await.map_err(|error| InternalError::new(doing, error))?;
        state.version = Some(version);
        Ok(())
    }
}
