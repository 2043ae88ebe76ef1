//! Which regions have a log: the registry, its bound, and the end of a log.
//!
//! The transaction that begins a log adds the region to the registry, and the one that ends it takes it out. A log
//! ends long after its last alert has expired. A publication at the same moment either comes first, and then the
//! head is not as it was seen and the log stays; or it comes second, finds no head, and begins another log with a
//! later epoch.
//!
//! The log of the canary is in no registry: it is not part of `ALL`, and takes no place from a region that is.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, Delete, TransactWriteItem, Update, builders::UpdateBuilder};
use tokio::time::Instant;

use crate::{
    error::{ErrorChain, InternalError},
    limits::{LOG_AGE_MAX, LOGS_ENDED_MAX, RECOVERY_END_BEFORE},
    model::{alert::Position, audience::Region},
    tables::{
        alerts::{
            Alerts,
            schema::{AUDIENCE_SEQ, HEAD_SEQ, LEASE_SEQ, NAMES, REGION, REGISTRY, SEQ, head_partition},
            snapshot::SnapshotEntry,
        },
        dynamodb::{number, text},
    },
};

/// The part of a transaction that registers a region whose log begins, unless there are as many as there may be.
pub(crate) fn registration(table: &str, region: &Region, regions_max: usize) -> UpdateBuilder {
    of_registry(table, region, "ADD #names :name")
        .condition_expression("attribute_not_exists(#names) OR size(#names) < :max OR contains(#names, :region)")
        .expression_attribute_values(":max", number(regions_max))
        .expression_attribute_values(":region", text(region.as_str()))
}

fn of_registry(table: &str, region: &Region, expression: &str) -> UpdateBuilder {
    Update::builder()
        .table_name(table)
        .key(REGION, text(REGISTRY))
        .key(SEQ, number(HEAD_SEQ))
        .update_expression(expression)
        .expression_attribute_names("#names", NAMES)
        .expression_attribute_values(":name", AttributeValue::Ss(vec![region.to_string()]))
}

impl Alerts {
    /// Ends logs whose last alert expired long ago, so many at most in one run, and removes them from the snapshot. One
    /// that fails does not stop the others. Returns how many there are still beside that of the canary, where that can
    /// be read. `deadline` is when the invocation ends.
    pub async fn end_old_logs(&self, deadline: Instant) -> Option<usize> {
        let stop_at = deadline.checked_sub(RECOVERY_END_BEFORE).unwrap_or(deadline);
        let read = self.snapshot.look().await;
        let entries = read
            .inspect_err(|failure| tracing::error!(error = %ErrorChain(failure), "old logs not looked for"))
            .ok()?;
        let now = self.clock.now();
        let is_old = |entry: &SnapshotEntry| now.since(entry.committed_at) >= LOG_AGE_MAX;
        let old = entries.iter().filter(|(_, entry)| is_old(entry)).take(LOGS_ENDED_MAX);
        let mut left: BTreeSet<&Region> = entries.keys().filter(|region| !region.is_canary()).collect();
        for (region, entry) in old.take_while(|_| Instant::now() < stop_at) {
            match self.end_as_seen(region, entry).await {
                Ok(true) => drop(left.remove(region)),
                Ok(false) => {}
                Err(failure) => tracing::error!(error = %ErrorChain(&failure), %region, "log of a region not ended"),
            }
        }
        Some(left.len())
    }

    async fn end_as_seen(&self, region: &Region, entry: &SnapshotEntry) -> Result<bool, InternalError> {
        if !self.end_log(region).await? {
            // Something was published that is not in the snapshot.
            self.record_head(region).await?;
            return Ok(false);
        }
        let is_removed = self.snapshot.remove(region, entry).await?;
        if is_removed {
            tracing::info!(%region, "log of a region ended");
        }
        Ok(is_removed)
    }

    /// Whether a region that has no log cannot have one, because there are as many as there may be.
    pub(crate) async fn is_full_for(&self, region: &Region) -> Result<bool, InternalError> {
        if region.is_canary() {
            return Ok(false);
        }
        let names = self.registered().await?;
        Ok(names.len() >= self.regions_max && !names.iter().any(|name| name == region.as_str()))
    }

    /// The names of all regions that have a log.
    pub async fn registered(&self) -> Result<Vec<String>, InternalError> {
        let item = self.get(REGISTRY, HEAD_SEQ, "reading which regions have a log").await?;
        let names = item.and_then(|mut item| item.remove(NAMES));
        Ok(names.and_then(|names| names.as_ss().ok().cloned()).unwrap_or_default())
    }

    /// Ends the log of a region, if its last alert expired long ago. False where it did not, or where something was
    /// published since it was looked at.
    pub async fn end_log(&self, region: &Region) -> Result<bool, InternalError> {
        let front = self.front(region).await?;
        let Some(head) = front.head else { return Ok(true) };
        let is_old = self.clock.now().since(head.committed_at) >= LOG_AGE_MAX;
        if is_old { self.remove_log(region, head.position).await } else { Ok(false) }
    }

    /// Removes the head of a log and the region from the registry, if the head is still where it was seen.
    pub async fn remove_log(&self, region: &Region, head: Position) -> Result<bool, InternalError> {
        let doing = "removing the log of a region";
        let delete = |seq: i64| {
            let delete = Delete::builder().table_name(&self.table);
            delete.key(REGION, text(head_partition(region))).key(SEQ, number(seq))
        };
        let seen = delete(0)
            .condition_expression("epoch = :epoch AND last_seq = :seq")
            .expression_attribute_values(":epoch", number(head.epoch))
            .expression_attribute_values(":seq", number(head.seq));
        let mut actions = Vec::new();
        for delete in [seen, delete(AUDIENCE_SEQ), delete(LEASE_SEQ)] {
            let delete = delete.build().map_err(|error| InternalError::new(doing, error))?;
            actions.push(TransactWriteItem::builder().delete(delete).build());
        }
        let unregistered = of_registry(&self.table, region, "DELETE #names :name").build();
        let unregistered = unregistered.map_err(|error| InternalError::new(doing, error))?;
        actions.push(TransactWriteItem::builder().update(unregistered).build());
        match self.client.transact_write_items().set_transact_items(Some(actions)).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_transaction_canceled_exception()) => {
                Ok(false)
            }
            Err(error) => Err(InternalError::new(doing, error)),
        }
    }
}
