//! The forms in which items are stored, in which functions send each other events, and which clients keep. Each has a
//! number.
//!
//! While a stack is deployed, functions of two versions run side by side, and what one of them has written is read by
//! others for up to two weeks. So no form changes without another number, and four rules make that safe:
//!
//! 1. **Form 1 does not say its number.** A later one says it in the attribute or field [`FORM`].
//! 2. **A reader leaves out what it does not know**, the number included. It takes what it needs by name, so a later
//!    form may add to items, and to the objects of events, but for `video`: its fields are the publisher's, and pages
//!    get them. To a text of fixed parts, such as a cursor, it adds behind a dot.
//! 3. **A later form keeps what readers of the one before need.** What cannot be said so takes two releases, of which
//!    the first reads the new form and the second writes it.
//! 4. **A reader of the later form does without what was added.** A writer of the form before may have written the
//!    whole item anew, see [`Rewrite`]. Where that only updates an item, an addition stays, even if all else goes: so
//!    readers leave out what a later form says of an alert beside `video` where there is `removed_at`.
//!
//! An item that lacks what its reader needs is unreadable. No reader panics at it, and hardly any code writes over it:
//! docs/operations.md, "Upgrading", says what happens with each form.
//!
//! Numbers count from the first release on. Before it, forms changed under the number 1, such as the mark of a closed
//! connection in `connection_state`: a stack from an earlier commit may hold what no file shows.
//!
//! The files `shared/forms/NAME.NUMBER.json` hold what the code writes. Tests compare them with that, read them, and
//! read them with additions as a later form may have them.

use serde_json::Value;

/// Attribute or field in which every form but the first says its number.
pub const FORM: &str = "form";

/// Where a form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An item of the alerts table.
    AlertsTable,
    /// An item of the subscriptions table.
    SubscriptionsTable,
    /// An item of the scores table.
    ScoresTable,
    /// Sent from one function to another: the payload of an invocation or its answer, the detail of an event, or the
    /// context of an authorizer.
    Sent,
    /// Kept by clients, which send it back.
    Client,
}

/// What becomes of what a later form has added to something when a function of the form before writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// It only changes its own attributes: the addition stays.
    Keeps,
    /// It writes or sends the whole anew: the addition is lost.
    Loses,
    /// It never writes what another one has written.
    Never,
}

/// A form that is stored or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub name: &'static str,
    /// The number that is written. All from 1 to this one can be read.
    pub number: u32,
    pub place: Place,
    pub rewrite: Rewrite,
    /// The file with the test that compares what is written with the golden file, from the root of the repository.
    pub tested_in: &'static str,
}

const HERE: &str = "shared/src/forms/tests.rs";

const fn first(name: &'static str, place: Place, rewrite: Rewrite, tested_in: &'static str) -> Form {
    Form { name, number: 1, place, rewrite, tested_in }
}

/// All forms.
pub const ALL: [Form; 21] = [
    first("head", Place::AlertsTable, Rewrite::Keeps, HERE),
    first("audience", Place::AlertsTable, Rewrite::Loses, HERE),
    first("lease", Place::AlertsTable, Rewrite::Keeps, HERE),
    first("registry", Place::AlertsTable, Rewrite::Keeps, HERE),
    // Removed alerts included.
    first("alert", Place::AlertsTable, Rewrite::Keeps, HERE),
    // Of the shard. An entry is written anew by each alert of its region.
    first("snapshot", Place::AlertsTable, Rewrite::Keeps, HERE),
    first("receipt", Place::AlertsTable, Rewrite::Never, HERE),
    // It becomes an alert in the form of who commits it.
    first("waiting_publication", Place::AlertsTable, Rewrite::Never, HERE),
    // Each alert of the video writes it anew.
    first("recent_alert", Place::AlertsTable, Rewrite::Loses, HERE),
    first("publisher_rate_limit", Place::AlertsTable, Rewrite::Keeps, HERE),
    first("subscription", Place::SubscriptionsTable, Rewrite::Loses, HERE),
    first("connection_state", Place::SubscriptionsTable, Rewrite::Keeps, HERE),
    // One that has expired is taken by another connection.
    first("seat", Place::SubscriptionsTable, Rewrite::Never, HERE),
    first("score_state", Place::ScoresTable, Rewrite::Loses, "functions/scorer/src/states.rs"),
    // Lost when a worker hands over, and when it is redriven.
    first("fanout_task", Place::Sent, Rewrite::Loses, HERE),
    first("announcement", Place::Sent, Rewrite::Never, "functions/scorer/src/announcer.rs"),
    first("canary_run", Place::Sent, Rewrite::Never, "functions/canary/src/lib.rs"),
    // What publish answers to an invocation, and the canary reads.
    first("publish_outcome", Place::Sent, Rewrite::Never, HERE),
    first("authorizer_context", Place::Sent, Rewrite::Never, "functions/authorize/src/lib.rs"),
    first("cursor", Place::Client, Rewrite::Loses, HERE),
    // A client moves the number on, and keeps what was added beside it.
    first("positions", Place::Client, Rewrite::Keeps, HERE),
];

/// The form with a name.
pub fn named(name: &str) -> Option<&'static Form> {
    ALL.iter().find(|form| form.name == name)
}

impl Form {
    /// The form of an item of a table with these keys. The scores table has no sort key.
    pub fn of_item(place: Place, partition: &str, sort: &str) -> Option<&'static Self> {
        let kind = partition.split('#').next().unwrap_or_default();
        let name = match (place, kind, sort) {
            (Place::AlertsTable, "@head", "-1") => "audience",
            (Place::AlertsTable, "@head", "0") => "head",
            (Place::AlertsTable, "@head", "1") => "lease",
            (Place::AlertsTable, "@regions", _) => "registry",
            (Place::AlertsTable, "@heads", _) => "snapshot",
            (Place::AlertsTable, "@key" | "@receipt", _) => "receipt",
            (Place::AlertsTable, "@queue", _) => "waiting_publication",
            (Place::AlertsTable, "@video", _) => "recent_alert",
            (Place::AlertsTable, "@publisher", _) => "publisher_rate_limit",
            (Place::AlertsTable, kind, _) if !kind.starts_with('@') => "alert",
            (Place::SubscriptionsTable, "@connection", _) => "connection_state",
            (Place::SubscriptionsTable, "@address" | "@user", _) => "seat",
            (Place::SubscriptionsTable, _, _) => "subscription",
            (Place::ScoresTable, _, _) => "score_state",
            _ => return None,
        };
        named(name)
    }

    /// Compares what the code writes now with the golden file of the form's number, byte for byte but for white space.
    ///
    /// # Errors
    ///
    /// What to do, where they differ.
    pub fn check(&self, golden: &Value, written: &Value) -> Result<(), FormChanged> {
        let (golden, written) = (golden.to_string(), written.to_string());
        if golden == written { Ok(()) } else { Err(FormChanged { form: *self, written }) }
    }
}

/// The code writes a form in another way than its golden file has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "form {0} of `{1}` has changed: either take the change back, or, in `shared/src/forms.rs`, give it the number {2}; \
     write that number in `{FORM}`; keep `shared/forms/{1}.{0}.json`, and a reader for it with a test; see that \
     readers of form {0} survive the new one; add `shared/forms/{1}.{2}.json`; name the change in CHANGELOG.md. The \
     code writes now: {3}",
    form.number, form.name, form.number + 1, written
)]
pub struct FormChanged {
    form: Form,
    written: String,
}

#[cfg(test)]
mod tests;
