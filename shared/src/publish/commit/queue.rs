//! The queue of a region: publications that met others at the head of its log wait here, and the one that has the
//! lease commits them for all.
//!
//! The lease only saves work. What is committed, and that it is committed once, the conditions of the transactions
//! decide, so two that lead at the same moment are in each other's way and nothing worse.

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{delete_item::DeleteItemError, update_item::UpdateItemError},
    types::AttributeValue,
};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    entry::{PendingPublication, Receipt, Ticket},
    transaction::{GROUP_MAX, is_lost, one_attempt},
};
use crate::{
    error::{ErrorChain, InternalError},
    limits::{
        LEASE, LOST_LOOK_PAUSE, LOST_LOOKS_MAX, QUEUE_AGE_MAX, QUEUE_TTL, TABLE_ATTEMPTS_MAX, TABLE_BACKOFF,
        TABLE_BACKOFF_MAX,
    },
    model::audience::Region,
    runtime::backoff::Backoff,
    tables::{
        alerts::{
            Alerts, is_leased,
            schema::{EXPIRES_AT, HEAD_SEQ, LEASE_SEQ, REGION, SEQ, head_partition, queue_partition},
        },
        dynamodb::{Item, number, text},
    },
};

/// Whether a change was made.
#[derive(Debug)]
pub(super) enum Changed {
    /// It was made.
    Yes,
    /// It was not: the item was not as it has to be.
    No,
    /// The answer did not come.
    Lost(InternalError),
    /// It was not made.
    Failed(InternalError),
}

impl Alerts {
    /// Puts a publication into the queue. Where the answer to an attempt was lost, it may have been committed before
    /// the next attempt, and be there once more for nothing: only without that it is certain to wait.
    pub(super) async fn enqueue(&self, region: &Region, ticket: Ticket, entry: &PendingPublication) -> Changed {
        let doing = "queueing a publication";
        let item = match entry.waiting_item() {
            Ok(item) => item,
            Err(error) => return Changed::Failed(InternalError::new(doing, error)),
        };
        let (mut ended, mut backoff) = (None, Backoff::new(TABLE_BACKOFF, TABLE_BACKOFF_MAX));
        for _ in 0..TABLE_ATTEMPTS_MAX {
            let put = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(item.clone()))
                .item(REGION, text(queue_partition(region)))
                .item(SEQ, ticket.seq())
                .item(EXPIRES_AT, number(self.clock.now().after(QUEUE_TTL).secs()))
                .condition_expression("attribute_not_exists(id)")
                .customize()
                .config_override(one_attempt());
            let is_lost_before = matches!(ended, Some(Changed::Lost(_)));
            match put.send().await {
                Ok(_) if is_lost_before => break,
                Ok(_) => return Changed::Yes,
                Err(error) if is_lost(&error) => ended = Some(Changed::Lost(InternalError::new(doing, error))),
                // It is there, or in a transaction, by an attempt whose answer was lost: nobody else has this ticket.
                Err(_) if is_lost_before => break,
                Err(error) => {
                    let is_throttled = error.code() == Some("ProvisionedThroughputExceededException")
                        || error.code() == Some("ThrottlingException")
                        || error.code() == Some("RequestLimitExceeded");
                    ended = Some(Changed::Failed(InternalError::new(doing, error)));
                    if !is_throttled {
                        break;
                    }
                }
            }
            backoff.pause().await;
        }
        ended.unwrap_or(Changed::No)
    }

    /// Takes a publication out of the queue. It is not there any more where it was committed.
    pub(super) async fn withdraw(&self, region: &Region, ticket: Ticket) -> Changed {
        let doing = "withdrawing a publication";
        let mut looks = 0;
        loop {
            let delete = self
                .client
                .delete_item()
                .table_name(&self.table)
                .key(REGION, text(queue_partition(region)))
                .key(SEQ, ticket.seq())
                .condition_expression("attribute_exists(id)")
                .send()
                .await;
            looks += 1;
            match delete {
                Ok(_) => return Changed::Yes,
                Err(error) => match error.as_service_error() {
                    Some(DeleteItemError::ConditionalCheckFailedException(_)) => return Changed::No,
                    // A transaction has it at this moment: only the end of that says what becomes of it.
                    Some(DeleteItemError::TransactionConflictException(_)) if looks < LOST_LOOKS_MAX => {
                        sleep(LOST_LOOK_PAUSE).await;
                    }
                    _ if is_lost(&error) => return Changed::Lost(InternalError::new(doing, error)),
                    _ => return Changed::Failed(InternalError::new(doing, error)),
                },
            }
        }
    }

    /// Those that wait, in the order in which they came, as many as one transaction may take, and so many `more`. What
    /// has waited longer than anybody waits for it is left to expire.
    pub(super) async fn waiting(
        &self,
        region: &Region,
        more: usize,
    ) -> Result<Vec<(Ticket, PendingPublication)>, InternalError> {
        let oldest = self.clock.now().before(QUEUE_AGE_MAX);
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#region = :queue AND seq >= :oldest")
            .expression_attribute_names("#region", REGION)
            .expression_attribute_values(":queue", text(queue_partition(region)))
            .expression_attribute_values(":oldest", Ticket::earliest(oldest).seq())
            .limit(i32::try_from(GROUP_MAX + more).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| InternalError::new("reading the queue of a region", error))?;
        let readable = |item: &Item| {
            let read = PendingPublication::waiting(item);
            read.inspect_err(|error| tracing::error!(%error, ?item, "waiting publication skipped")).ok()
        };
        Ok(output.items().iter().filter_map(readable).collect())
    }

    /// Takes publications out of the queue that are not to be committed. What fails is tried by the next one that
    /// leads.
    pub(super) async fn discard(&self, region: &Region, tickets: impl IntoIterator<Item = Ticket>) {
        join_all(tickets.into_iter().map(|ticket| self.withdraw(region, ticket))).await;
    }

    /// Reads a receipt.
    pub(super) async fn receipt(&self, partition: &str) -> Result<Option<Receipt>, InternalError> {
        let doing = "reading the receipt of a publication";
        let item = self.get(partition, HEAD_SEQ, doing).await?;
        item.as_ref().map(Receipt::read).transpose().map_err(|error| InternalError::new(doing, error))
    }

    /// Whether somebody has the lease of a region. It may be an old answer: many ask, and taking the lease looks again.
    pub(super) async fn is_led(&self, region: &Region) -> Result<bool, InternalError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(lease_key(region)))
            .send()
            .await
            .map_err(|error| InternalError::new("reading the lease of a region", error))?;
        Ok(output.item.is_some_and(|lease| is_leased(&lease, self.clock.now())))
    }

    /// Takes the lease of a region, or renews it. False where another one has it. A region that never gets a log has
    /// nobody to remove its lease, so it expires.
    pub(crate) async fn lease(&self, region: &Region, holder: &str) -> Result<bool, InternalError> {
        let now = self.clock.now();
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(lease_key(region)))
            .update_expression("SET holder = :holder, leased_until = :until, expires_at = :expires_at")
            .condition_expression("attribute_not_exists(leased_until) OR leased_until <= :now OR holder = :holder")
            .expression_attribute_values(":holder", text(holder))
            .expression_attribute_values(":until", number(now.after(LEASE).millis()))
            .expression_attribute_values(":expires_at", number(now.after(QUEUE_TTL).secs()))
            .expression_attribute_values(":now", number(now.millis()));
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_condition(&error) => Ok(false),
            Err(error) => Err(InternalError::new("taking the lease of a region", error)),
        }
    }

    /// Gives the lease back, so that the next one need not wait for its end.
    pub(super) async fn release(&self, region: &Region, holder: &str) {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(lease_key(region)))
            .update_expression("SET leased_until = :none")
            .condition_expression("holder = :holder")
            .expression_attribute_values(":holder", text(holder))
            .expression_attribute_values(":none", number(0));
        match update.send().await {
            Err(error) if !is_condition(&error) => {
                let failure = InternalError::new("giving back the lease of a region", error);
                tracing::warn!(error = %ErrorChain(&failure), %region, "lease not given back");
            }
            _ => {}
        }
    }
}

fn lease_key(region: &Region) -> Item {
    let key: [(&str, AttributeValue); 2] = [(REGION, text(head_partition(region))), (SEQ, number(LEASE_SEQ))];
    key.map(|(name, value)| (name.to_owned(), value)).into()
}

fn is_condition(error: &SdkError<UpdateItemError>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_)))
}
