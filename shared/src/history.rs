//! Reading the log of alerts: positions, sizes of audiences, and alerts. What lies where is in the catalogue of
//! [`crate::alerts`]. Every read is consistent: what was committed before it began is in it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::{Client, operation::query::QueryOutput, types::Update};

use crate::{
    alert::{Alert, Position},
    alerts::{AUDIENCE, AUDIENCE_SEQ, EPOCH, HEAD_SEQ, LAST_SEQ, NAMES, REGION, REGISTRY, SEQ, alert},
    audience::Region,
    environment::Reader,
    error::Failure,
    function::Start,
    limits::{UNSEEN_ALERT_PAUSE, UNSEEN_ALERT_READS_MAX},
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
        Ok(heads(&read_all(&self.client, &self.table, keys).await?))
    }

    /// Up to `limit` alerts of a span, from one end of it. The span ends at a head that was read before: a transaction writes
    /// head and alert as one, but only for who reads them as one, so the last alert may be seen a moment later than the head.
    /// Where it should be on the page and is not, the page is read again.
    pub async fn alerts(&self, region: &Region, span: Span, limit: usize, end: End) -> Result<Page, Failure> {
        let mut output = self.query(region, span, limit, end).await?;
        for _ in 1..UNSEEN_ALERT_READS_MAX {
            let reaches_end =
                end == End::Newest || (output.items().len() < limit && output.last_evaluated_key.is_none());
            if !reaches_end
                || output.items().iter().any(|item| read_number(item, SEQ).is_ok_and(|seq: u64| seq == span.last))
            {
                break;
            }
            tokio::time::sleep(UNSEEN_ALERT_PAUSE).await;
            output = self.query(region, span, limit, end).await?;
        }
        let mut alerts: Vec<Alert> = output.items().iter().filter_map(readable).collect();
        if end == End::Newest {
            alerts.reverse();
        }
        Ok(Page { alerts, whole: output.items().len() >= limit || output.last_evaluated_key.is_none() })
    }

    async fn query(&self, region: &Region, span: Span, limit: usize, end: End) -> Result<QueryOutput, Failure> {
        self.client
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
            .map_err(|error| Failure::new("reading alerts of a region", error))
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

/// What a head or an audience says of its region.
enum Front {
    Head(Position),
    Audience(u64),
}

/// The heads among the items. One that cannot be read must not take the log from all others: its region counts as one without
/// a log, and is recovered for nobody.
fn heads(items: &[Item]) -> BTreeMap<Region, Head> {
    let mut audiences: BTreeMap<Region, u64> = BTreeMap::new();
    let mut heads: BTreeMap<Region, Head> = BTreeMap::new();
    for item in items {
        match front(item) {
            Ok((region, Front::Head(position))) => {
                heads.insert(region, Head { position, audience: None });
            }
            Ok((region, Front::Audience(audience))) => {
                audiences.insert(region, audience);
            }
            Err(error) => tracing::error!(%error, ?item, "head skipped"),
        }
    }
    for (region, head) in &mut heads {
        head.audience = audiences.get(region).copied();
    }
    heads
}

fn front(item: &Item) -> Result<(Region, Front), UnreadableItem> {
    let region = read_text(item, REGION)?.parse().map_err(|_| UnreadableItem(REGION))?;
    let front = if read_number::<i64>(item, SEQ)? == AUDIENCE_SEQ {
        Front::Audience(read_number(item, AUDIENCE)?)
    } else {
        Front::Head(Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, LAST_SEQ)? })
    };
    Ok((region, front))
}

fn key(partition: &str, seq: impl ToString) -> Item {
    Item::from([(REGION.to_owned(), text(partition)), (SEQ.to_owned(), number(seq))])
}

/// An alert that cannot be read counts as missing: its region is not recovered, others are.
fn readable(item: &Item) -> Option<Alert> {
    alert(item).inspect_err(|error| tracing::error!(%error, ?item, "alert skipped")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audience::Audience,
        fake_aws::{Answer, Requests, sdk},
        limits::REGIONS_OF_ALL_MAX,
        paging::{self, Begin},
        resumption,
    };

    /// A table that gives these answers one after the other, and the last one from then on.
    fn history(answers: Vec<String>) -> (History, Requests) {
        let (sdk, requests) = sdk(move |before| Answer(200, "", answers[before.min(answers.len() - 1)].clone()));
        (History { client: Client::new(&sdk), table: "t".to_owned() }, requests)
    }

    fn items(seqs: &[u64], more: &str) -> String {
        let item = |seq: &u64| {
            format!(
                r#"{{"region":{{"S":"PL"}},"seq":{{"N":"{seq}"}},"epoch":{{"N":"9"}},"id":{{"S":"a"}},"at":{{"N":"0"}},"video":{{"S":"{{\"id\":\"v\",\"title\":\"t\"}}"}}}}"#
            )
        };
        format!(r#"{{"Items":[{}],"Count":{}{more}}}"#, seqs.iter().map(item).collect::<Vec<_>>().join(","), seqs.len())
    }

    /// The numbers that are read of the alerts 3 to 5, and the number of queries.
    async fn read(answers: Vec<String>, limit: usize, end: End) -> (Vec<u64>, usize) {
        let (history, requests) = history(answers);
        let span = Span { epoch: 9, first: 3, last: 5 };
        let page = history.alerts(&"PL".parse().expect("a region"), span, limit, end).await.expect("read");
        let queries = requests.lock().expect("unpoisoned").len();
        (page.alerts.iter().map(|alert| alert.position.seq).collect(), queries)
    }

    #[tokio::test(start_paused = true)]
    async fn an_alert_that_is_seen_later_than_its_head_is_waited_for() {
        let late = |seqs: &[u64], all: &[u64]| vec![items(seqs, ""), items(all, "")];
        assert_eq!(read(late(&[3, 4], &[3, 4, 5]), 100, End::Oldest).await, (vec![3, 4, 5], 2));
        assert_eq!(read(late(&[4, 3], &[5, 4]), 2, End::Newest).await, (vec![4, 5], 2));
        assert_eq!(read(late(&[], &[5]), 100, End::Newest).await, (vec![5], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alert_that_is_not_there_is_waited_for_within_bounds() {
        let bound = UNSEEN_ALERT_READS_MAX as usize;
        assert_eq!(read(vec![items(&[3, 4], "")], 100, End::Oldest).await, (vec![3, 4], bound));
        assert_eq!(read(vec![items(&[], "")], 100, End::Newest).await, (vec![], bound));
    }

    #[tokio::test]
    async fn where_all_is_too_much_what_is_named_comes_first() {
        let names = (0..400).map(|number| format!(r#""R-{number:03}""#)).collect::<Vec<_>>().join(",");
        let registry = format!(
            r#"{{"Responses":{{"t":[{{"region":{{"S":"{REGISTRY}"}},"seq":{{"N":"0"}},"names":{{"SS":[{names}]}}}}]}}}}"#
        );
        let (history, _) = history(vec![registry]);
        let region = |name: &str| -> Region { name.parse().expect("a region") };
        let since = [(region("YY"), Position { epoch: 9, seq: 1 })].into_iter().collect();
        let audiences = [Audience::All, Audience::Region(region("ZZ"))];
        let (regions, covers_all) = resumption::regions(&history, &audiences, Some(&since)).await.expect("read");
        assert_eq!((regions.len(), covers_all), (REGIONS_OF_ALL_MAX, false));
        assert_eq!(regions[..3], ["ZZ", "YY", "R-000"].map(region));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_ends_before_the_span_is_read_once() {
        let cut = r#","LastEvaluatedKey":{"region":{"S":"PL"},"seq":{"N":"4"}}"#;
        assert_eq!(read(vec![items(&[3, 4], "")], 2, End::Oldest).await, (vec![3, 4], 1));
        assert_eq!(read(vec![items(&[3, 4], cut)], 100, End::Oldest).await, (vec![3, 4], 1));
        assert_eq!(read(vec![items(&[3, 4, 5], "")], 100, End::Oldest).await, (vec![3, 4, 5], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_alerts_reach_the_cursor_that_they_come_with() {
        let head =
            r#"{"Responses":{"t":[{"region":{"S":"PL"},"seq":{"N":"0"},"epoch":{"N":"9"},"last_seq":{"N":"5"}}]}}"#;
        let (history, _) = history(vec![head.to_owned(), items(&[4, 3], ""), items(&[5, 4, 3], "")]);
        let audience = "PL".parse().expect("a region");
        let batch = paging::read(&history, &[audience], &Begin::Newest, 100).await.expect("read");
        assert_eq!(batch.alerts.last().map(|alert| alert.position), batch.positions.get(&batch.alerts[0].region));
    }

    #[test]
    fn a_head_or_audience_that_cannot_be_read_is_left_out_alone() {
        let item = |region: &str, seq: i64, more: &[(&str, i64)]| {
            let mut item = key(region, seq);
            item.extend(more.iter().map(|(name, value)| ((*name).to_owned(), number(value))));
            item
        };
        let found = heads(&[
            item("AA", 0, &[(EPOCH, 9), (LAST_SEQ, 4)]),
            item("AA", AUDIENCE_SEQ, &[(AUDIENCE, 70)]),
            item("BB", 0, &[(EPOCH, 9)]),
            item("CC", 0, &[(EPOCH, 9), (LAST_SEQ, -1)]),
            item("?", 0, &[(EPOCH, 9), (LAST_SEQ, 4)]),
            Item::new(),
            item("DD", AUDIENCE_SEQ, &[]),
            item("DD", 0, &[(EPOCH, 9), (LAST_SEQ, 1)]),
        ]);
        let head = |seq, audience| Head { position: Position { epoch: 9, seq }, audience };
        let region = |name: &str| name.parse::<Region>().expect(name);
        assert_eq!(found, [(region("AA"), head(4, Some(70))), (region("DD"), head(1, None))].into());
    }
}
