//! Taking an alert back: its number stays in the log, its content goes, and clients that are connected are told.
//!
//! One update takes the content out of the item, and sets the mark `undispatched` with it. So whatever ends after that,
//! nobody who reads the log from then on gets the content, and clients are told: by this call, by a repeat, or by
//! recover. Whoever publishes the same again with its idempotency key is told what became of it the first time, because
//! the receipt stays.
//!
//! A fan-out of the alert that is under way goes on. One that begins later, because it was queued, handed over, or
//! redriven, looks into the log first and finds nothing to deliver ([`Alerts::has`]). So the removal may reach a client
//! before the alert does.

use aws_sdk_dynamodb::{
    error::SdkError, operation::update_item::UpdateItemError, types::ReturnValue,
    types::ReturnValuesOnConditionCheckFailure,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    error::{ApiError, Code, Decision, ErrorChain, InternalError},
    fanout::Content,
    model::{
        alert::{Logged, Removal},
        audience::Region,
        publication::PublisherId,
    },
    publish::publisher::Publisher,
    tables::{
        alerts::{
            Alerts, LogFront, logged,
            schema::{EPOCH, IS_UNDISPATCHED, REGION, REMOVED_AT, SEQ},
        },
        dynamodb::{number, read_number, text},
    },
};

/// Which alert is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalRequest {
    /// The region it was published for.
    pub region: Region,
    /// Its number in the log of the region.
    pub seq: u64,
    /// The log, where the request names one: no other is touched then.
    pub epoch: Option<i64>,
}

/// What the one who takes an alert back is told, the first time and each time after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovalOutcome {
    pub id: String,
    pub region: String,
    pub seq: u64,
    /// The log that `seq` counts in.
    pub epoch: i64,
    /// Always true.
    pub removed: bool,
}

/// What taking an alert back came to: it is gone; a refusal; or a failure, after which it may be gone or not.
pub type TakenBack = Decision<RemovalOutcome>;

impl RemovalRequest {
    /// Reads the path and the query of a request: `/alerts/{region}/{seq}?epoch={epoch}`.
    ///
    /// # Errors
    ///
    /// The code and the field for an invalid region, number or epoch.
    pub fn of_path(region: &str, seq: &str, epoch: Option<&str>) -> Result<Self, ApiError> {
        // In one form only, so that "007" is not another address of an alert.
        let number = |field: &str, text: &str| {
            whole_number(field, text.parse().ok().filter(|number: &i64| number.to_string() == text))
        };
        Ok(Self {
            region: parsed(region)?,
            seq: number("seq", seq)?.unsigned_abs(),
            epoch: epoch.map(|epoch| number("epoch", epoch)).transpose()?,
        })
    }

    /// Reads `{"region","seq","epoch"}`, the last of which may be missing.
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self, ApiError> {
        let field = |name: &str| {
            let missing = || ApiError::of_field(Code::MissingField, name, format!("{name} is missing"));
            fields.get(name).filter(|value| !value.is_null()).ok_or_else(missing)
        };
        let region = field("region")?.as_str().unwrap_or_default();
        let seq = whole_number("seq", field("seq")?.as_i64())?.unsigned_abs();
        let epoch = field("epoch").ok().map(|value| whole_number("epoch", value.as_i64())).transpose()?;
        Ok(Self { region: parsed(region)?, seq, epoch })
    }

    fn unknown(&self) -> ApiError {
        let Self { region, seq, .. } = self;
        let message =
            format!("{region} has no alert {seq}: GET /alerts?region={region} has the numbers that there are");
        ApiError::of_field(Code::UnknownAlert, "seq", message)
    }

    fn expired(&self) -> ApiError {
        let Self { region, seq, .. } = self;
        let message = format!("alert {seq} of {region} has expired, so nobody gets it any more");
        ApiError::of_field(Code::AlertExpired, "seq", message)
    }
}

fn parsed(region: &str) -> Result<Region, ApiError> {
    let invalid = |message| Err(ApiError::of_field(Code::InvalidRegion, "region", message));
    match region.parse::<Region>() {
        Ok(region) if region.is_canary() => invalid(format!("{region} is reserved for the synthetic canary")),
        Ok(region) => Ok(region),
        Err(error) => invalid(error.to_string()),
    }
}

fn whole_number(field: &str, number: Option<i64>) -> Result<i64, ApiError> {
    let invalid = || ApiError::of_field(Code::InvalidField, field, format!("{field} must be a whole number from 1"));
    number.filter(|number| *number > 0).ok_or_else(invalid)
}

impl Alerts {
    /// Takes the content of an alert out of the log. The front of the log that it is in, and what is left of the alert.
    async fn take_back(&self, request: &RemovalRequest) -> Decision<(LogFront, Removal)> {
        let doing = "taking an alert back";
        let front = self.front(&request.region).await?;
        let Some(head) = front.head else { return Ok(Err(request.unknown())) };
        let epoch = head.position.epoch;
        if request.epoch.is_some_and(|asked| asked < epoch) {
            return Ok(Err(request.expired()));
        }
        if request.epoch.is_some_and(|asked| asked > epoch) || request.seq > head.position.seq {
            return Ok(Err(request.unknown()));
        }
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(REGION, text(request.region.as_str()))
            .key(SEQ, number(request.seq))
            .update_expression("REMOVE video SET removed_at = :now, undispatched = :undispatched")
            // At the number may lie an alert of a log before, which has expired.
            .condition_expression("epoch = :epoch AND attribute_not_exists(removed_at)")
            .expression_attribute_values(":epoch", number(epoch))
            .expression_attribute_values(":now", number(self.clock.now().millis()))
            .expression_attribute_values(":undispatched", text(IS_UNDISPATCHED))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await
            .map_err(SdkError::into_service_error);
        let item = match update {
            Ok(output) => output.attributes,
            Err(UpdateItemError::ConditionalCheckFailedException(failed)) => failed.item,
            Err(error) => return Err(InternalError::new(doing, error)),
        };
        let is_removed =
            item.filter(|item| item.contains_key(REMOVED_AT) && read_number(item, EPOCH).ok() == Some(epoch));
        match is_removed.as_ref().map(logged).transpose().map_err(|error| InternalError::new(doing, error))? {
            Some(Logged::Removed(removal)) => Ok(Ok((front, removal))),
            _ => Ok(Err(request.expired())),
        }
    }
}

impl Publisher {
    /// Takes an alert back, and has those told who are connected: each time, so a repeat also tells those who were
    /// away. `by` says for the log who it was.
    pub async fn take_back(&self, request: &RemovalRequest, publisher: &PublisherId, by: &str) -> TakenBack {
        if let Some(rate_limit) = self.rate_limit
            && let Err(refusal) = self.alerts.allow(publisher, rate_limit, 1).await?
        {
            return Ok(Err(refusal));
        }
        let (front, removal) = match self.alerts.take_back(request).await? {
            Ok(taken_back) => taken_back,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Removal { id, region, position, .. } = removal.clone();
        tracing::info!(alert = id, %region, seq = position.seq, epoch = position.epoch, by, "alert removed");
        if let Err(failure) = self.tell(front, removal).await {
            tracing::error!(error = %ErrorChain(&failure), alert = id, "removal not dispatched yet");
        }
        Ok(Ok(RemovalOutcome { id, region: region.into(), seq: position.seq, epoch: position.epoch, removed: true }))
    }

    /// Starts the fan-out of a removal. As with an alert, the snapshot has its number before: a client that comes to
    /// know of it by a frame must not be ahead of where the log seems to end.
    async fn tell(&self, front: LogFront, removal: Removal) -> Result<(), InternalError> {
        if let Some(head) = front.head {
            self.alerts.record(&removal.region, head, front.audience).await?;
        }
        self.dispatcher.deliver(Content::Removal(removal.clone())).await?;
        if let Err(failure) = self.alerts.mark_dispatched(&Logged::Removed(removal.clone())).await {
            tracing::warn!(error = %ErrorChain(&failure), alert = removal.id, "dispatched alert not marked");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_fields(fields: Value) -> Result<RemovalRequest, (Code, Option<String>)> {
        let Value::Object(fields) = fields else { panic!("an object") };
        RemovalRequest::from_fields(&fields).map_err(|refusal| (refusal.code, refusal.field))
    }

    fn of_path(region: &str, seq: &str, epoch: Option<&str>) -> Result<RemovalRequest, (Code, Option<String>)> {
        RemovalRequest::of_path(region, seq, epoch).map_err(|refusal| (refusal.code, refusal.field))
    }

    #[test]
    fn a_path_and_a_document_name_the_same_alert() {
        let pl = |epoch| RemovalRequest { region: "PL".parse().expect("a region"), seq: 7, epoch };
        assert_eq!(of_path("pl", "7", None), Ok(pl(None)));
        assert_eq!(of_path("PL", "7", Some("9")), Ok(pl(Some(9))));
        assert_eq!(of_fields(json!({"region": "pl", "seq": 7})), Ok(pl(None)));
        assert_eq!(of_fields(json!({"region": "PL", "seq": 7, "epoch": 9})), Ok(pl(Some(9))));
        assert_eq!(of_fields(json!({"region": "PL", "seq": 7, "epoch": null})), Ok(pl(None)));
    }

    #[test]
    fn each_mistake_has_its_code_and_field() {
        let error = |code, field: &str| Err((code, Some(field.to_owned())));
        assert_eq!(of_path("@", "7", None), error(Code::InvalidRegion, "region"));
        assert_eq!(of_path("ALL", "7", None), error(Code::InvalidRegion, "region"));
        assert_eq!(of_path("x-canary", "7", None), error(Code::InvalidRegion, "region"));
        for seq in ["", "0", "-1", "+2", "007", "1.0", "x", "9223372036854775808"] {
            assert_eq!(of_path("PL", seq, None), error(Code::InvalidField, "seq"), "{seq}");
            assert_eq!(of_path("PL", "7", Some(seq)), error(Code::InvalidField, "epoch"), "{seq}");
        }
        assert_eq!(of_fields(json!({"seq": 7})), error(Code::MissingField, "region"));
        assert_eq!(of_fields(json!({"region": 7, "seq": 7})), error(Code::InvalidRegion, "region"));
        assert_eq!(of_fields(json!({"region": "PL"})), error(Code::MissingField, "seq"));
        assert_eq!(of_fields(json!({"region": "PL", "seq": "7"})), error(Code::InvalidField, "seq"));
        assert_eq!(of_fields(json!({"region": "PL", "seq": 7, "epoch": "9"})), error(Code::InvalidField, "epoch"));
    }
}
