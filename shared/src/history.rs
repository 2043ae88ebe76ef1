//! Reading the log of alerts: positions, sizes of audiences, and alerts. What lies where is in the catalogue of
//! [`crate::alerts`]. Every read is consistent: what was committed before it began is in it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::{Client, types::Update};

use crate::{
    alert::{Alert, Position},
    alerts::{AUDIENCE, AUDIENCE_SEQ, EPOCH, HEAD_SEQ, LAST_SEQ, NAMES, REGION, REGISTRY, SEQ, alert},
    audience::Region,
    environment::Reader,
    error::Failure,
    function::Start,
    resumption::Span,
    table::{Item, UnreadableItem, number, read_all, read_number, read_text, text},
};

/// Environment variable that names the table.
pub const TABLE_VARIABLE: &str = "ALERTS_TABLE";

/// What is known of a region's log as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last alert.
    pub position: Position,
    /// How many connections the last alert went to, as estimated by its fan-out. None where no fan-out has said.
    pub audience: Option<u64>,
}

/// Some alerts of a log, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The alerts that are there.
    pub alerts: Vec<Alert>,
    /// Whether these are all that were asked for. One answer of DynamoDB holds 1 MB.
    pub whole: bool,
}

/// From which end of a span alerts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The oldest first.
    Oldest,
    /// The newest first; the page is ascending all the same.
    Newest,
}

/// Access to the alerts table, for reading.
#[derive(Clone, Debug)]
pub struct History {
    client: Client,
    table: String,
}

impl History {
    /// The table that the function's environment names.
    pub fn of_function(start: &Start, environment: &mut Reader<'_>) -> Self {
        Self { client: Client::new(&start.sdk), table: environment.required(TABLE_VARIABLE) }
    }

    /// Every region that has a log. The transaction that begins a log also registers it, so none is missing.
    pub async fn regions(&self) -> Result<BTreeSet<Region>, Failure> {
        let doing = "reading which regions have a log";
        let items = read_all(&self.client, &self.table, vec![key(REGISTRY, HEAD_SEQ)]).await?;
        let Some(registry) = items.first() else { return Ok(BTreeSet::new()) };
        let names = registry.get(NAMES).and_then(|names| names.as_ss().ok());
        let names = names.ok_or_else(|| Failure::new(doing, UnreadableItem(NAMES)))?;
        // One name that cannot be read must not take the log from all others.
        let readable =
            |name: &String| name.parse().inspect_err(|error| tracing::error!(%error, name, "region skipped")).ok();
        Ok(names.iter().filter_map(readable).collect())
    }

    /// The heads of those regions that have a log. Costs two reads for each region that is asked for.
    pub async fn heads(&self, regions: impl IntoIterator<Item = &Region>) -> Result<BTreeMap<Region, Head>, Failure> {
        let keys = |region: &Region| [key(region.as_str(), HEAD_SEQ), key(region.as_str(), AUDIENCE_SEQ)];
        self.read_heads(regions.into_iter().flat_map(keys).collect()).await
    }

    /// The last positions of those regions that have a log. Costs one read for each region that is asked for.
    pub async fn positions(
        &self,
        regions: impl IntoIterator<Item = &Region>,
    ) -> Result<BTreeMap<Region, Position>, Failure> {
        let keys = regions.into_iter().map(|region| key(region.as_str(), HEAD_SEQ)).collect();
        let heads = self.read_heads(keys).await?;
        Ok(heads.into_iter().map(|(region, head)| (region, head.position)).collect())
    }

    async fn read_heads(&self, keys: Vec<Item>) -> Result<BTreeMap<Region, Head>, Failure> {
        let items = read_all(&self.client, &self.table, keys).await?;
        heads(&items).map_err(|error| Failure::new("reading the heads of regions", error))
    }

    /// Up to `limit` alerts of a span, from one end of it.
    pub async fn alerts(&self, region: &Region, span: Span, limit: usize, end: End) -> Result<Page, Failure> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#region = :region AND seq BETWEEN :first AND :last")
            .expression_attribute_names("#region", REGION)
            .expression_attribute_values(":region", text(region.as_str()))
            .expression_attribute_values(":first", number(span.first))
            .expression_attribute_values(":last", number(span.last))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .scan_index_forward(end == End::Oldest)
            .send()
            .await
            .map_err(|error| Failure::new("reading alerts of a region", error))?;
        let read = output.count().unsigned_abs() as usize;
        let mut alerts: Vec<Alert> = output.items().iter().filter_map(readable).collect();
        if end == End::Newest {
            alerts.reverse();
        }
        Ok(Page { alerts, whole: read >= limit || output.last_evaluated_key.is_none() })
    }
}

/// The part of a transaction that registers a region whose log begins.
pub(crate) fn registration(table: &str, region: &Region) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
    Update::builder()
        .table_name(table)
        .key(REGION, text(REGISTRY))
        .key(SEQ, number(HEAD_SEQ))
        .update_expression("ADD #names :name")
        .expression_attribute_names("#names", NAMES)
        .expression_attribute_values(":name", aws_sdk_dynamodb::types::AttributeValue::Ss(vec![region.to_string()]))
}

fn heads(items: &[Item]) -> Result<BTreeMap<Region, Head>, UnreadableItem> {
    let mut audiences: BTreeMap<Region, u64> = BTreeMap::new();
    let mut heads: BTreeMap<Region, Head> = BTreeMap::new();
    for item in items {
        let region = read_text(item, REGION)?.parse().map_err(|_| UnreadableItem(REGION))?;
        if read_number::<i64>(item, SEQ)? == AUDIENCE_SEQ {
            // Only an estimate: without it there is a default.
            audiences.extend(read_number(item, AUDIENCE).ok().map(|audience| (region, audience)));
        } else {
            let position = Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, LAST_SEQ)? };
            heads.insert(region, Head { position, audience: None });
        }
    }
    for (region, head) in &mut heads {
        head.audience = audiences.get(region).copied();
    }
    Ok(heads)
}

fn key(partition: &str, seq: impl ToString) -> Item {
    Item::from([(REGION.to_owned(), text(partition)), (SEQ.to_owned(), number(seq))])
}

/// An alert that cannot be read counts as missing: its region is not recovered, others are.
fn readable(item: &Item) -> Option<Alert> {
    alert(item).inspect_err(|error| tracing::error!(%error, ?item, "alert skipped")).ok()
}
