//! Every guarantee of the service, stated once, and the checks that hold it in every world.
//!
//! `docs/guarantees.md` is this list; a test keeps both alike.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::model::audience::CANARY;

use crate::{
    cloud::lock,
    world::{
        Run,
        journal::{Heard, Published, Told, Visit},
        plan::REGIONS,
    },
};

/// A guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantee {
    pub number: u32,
    pub name: &'static str,
    /// What holds.
    pub sentence: &'static str,
    /// The document that promises it.
    pub promised: &'static str,
    /// What looks whether it holds.
    pub check: &'static str,
    /// In which worlds it is weaker, and why.
    pub weaker: &'static str,
}

/// All guarantees.
pub const GUARANTEES: [Guarantee; 12] = [
    Guarantee {
        number: 1,
        name: "true answers",
        sentence: "An alert that was answered with `published: true` is in the log once, at the place that the \
             answer names, and the log has no gaps. One that was answered otherwise is as its answer says. A refusal \
             has its reason: a limit, or a key that stands for another publication. An event is answered or becomes a \
             dead letter. Nothing is published on the Event API before it is in the log.",
        promised: "[protocol.md](protocol.md#publishing)",
        check: "`check_log`, `check_answers`, `check_event`, `conflict`, `again`",
        weaker: "A publication without an idempotency key that was answered with `outcome_unknown`, or not at all, \
             may be in the log or not.",
    },
    Guarantee {
        number: 2,
        name: "nothing lost",
        sentence: "Whoever stays connected and subscribed gets each alert at least once. Whoever comes back with \
             positions gets everything or is told of a gap; in the browser client once and in order. Whoever reads \
             over HTTP page by page gets the whole log. Every message is answered.",
        promised: "[protocol.md](protocol.md#positions) and [client/README.md](../client/README.md)",
        check: "`check_deliveries`, `check_applications`, `check_page`, `check_answer`, `check_grants`, `again`",
        weaker: "A connection that the service closes, because the gateway said three times that it is gone, is \
             told by the close; its client comes back. Where deliver fails three times, others than the browser \
             client get the alert when somebody drives the dead letters again; a post that the quota of the account \
             refuses for ten seconds is given up, and they miss that alert. A client whose user has \
             all the connections that are allowed waits until the service notices that some have ended. On the Event \
             API the browser client has what was lost when it has looked at the log once more.",
    },
    Guarantee {
        number: 3,
        name: "nobody else",
        sentence: "Nobody outside the audience of an alert gets it, nor anybody whose token does not allow it. A token \
             that somebody else has signed opens nothing, and one that has ended nothing a minute later; a connection \
             outlives it by two hours and a minute at most.",
        promised: "[protocol.md](protocol.md#tokens)",
        check: "`check_strangers`, `check_event`, `check_tokens`, `holder`, `intrude`, `page`",
        weaker: "An alert that nobody is subscribed to goes to everyone, marked as such, where `FallbackToEveryone` \
             says so, no tokens are asked for and there is no Event API. A subscription on the Event API may last \
             longer than its token, a day at most: AppSync asks for the token when it begins.",
    },
    Guarantee {
        number: 4,
        name: "nobody deaf",
        sentence: "Twelve minutes after the last fault every live connection is sent the alerts that it is \
             subscribed to.",
        promised: "[protocol.md](protocol.md#keepalive)",
        check: "`check_probes`, `check_states`",
        weaker: "With a low `PushRate` an alert takes as long as its posts. Clients of a crowd come back over the \
             time that they were told.",
    },
    Guarantee {
        number: 5,
        name: "nothing left",
        sentence: "Of a connection whose `$disconnect` has run nothing is left but a mark, and of any other nothing \
             after two hours and ten minutes. Of an alert nothing is left two days after it, and its region is free \
             for another. Each item that is written is kept as long as the documents say, no longer and no shorter.",
        promised: "[security.md](security.md) and [operations.md](operations.md#upgrading)",
        check: "`check_traces`, `check_lifetime`, `nothing_is_left`",
        weaker: "The time to live may be late; what has expired counts as gone.",
    },
    Guarantee {
        number: 6,
        name: "within the quotas",
        sentence: "The fan-out of an alert keeps to the push rate in every second, and no chain of invocations \
             reaches Lambda's stop.",
        promised: "[operations.md](operations.md#limits)",
        check: "`check_rate`, `invoke_later`",
        weaker: "Where an invocation runs twice, each copy has its share of the rate; then the gateway's refusals \
             slow them down.",
    },
    Guarantee {
        number: 7,
        name: "exact limits",
        sentence: "Limits of connections, messages and alerts admit what they say, neither more nor fewer. Within \
             its window a video is alerted once, unless it rises or its alert is taken back.",
        promised: "[operations.md](operations.md#limits)",
        check: "`check_seats`, `flood`, `check_allowances`, `check_log`, `check_repeats`",
        weaker: "Limits in time are as exact as the clocks of two functions are alike. Too few are admitted only \
             where a write is lost; that is looked for in calm worlds.",
    },
    Guarantee {
        number: 8,
        name: "everything ends",
        sentence: "Twelve minutes after the last fault nothing is under way, no dead letter is left that cannot be \
             driven again, and no item is larger than its bound. Where there is an Event API, each alert and each \
             removal was published there.",
        promised: "[operations.md](operations.md)",
        check: "`settle`, `check_events`, `check_sizes`, `handshake`, `page`",
        weaker: "With a low `PushRate` work goes on as long as its posts take. What the Event API does not take in \
             twelve attempts waits as a dead letter, and where Lambda does not take the invocation that would try \
             again, it is not published: clients find it in the log.",
    },
    Guarantee {
        number: 9,
        name: "within the bill",
        sentence: "What a connection, a message and an alert cost in the database is at most what the table says.",
        promised: "[cost.md](cost.md#requests-and-units)",
        check: "`check_bill`, which reads the table",
        weaker: "Looked for in calm worlds: requests that are repeated are billed again, as are those of many \
             regions that begin at one moment.",
    },
    Guarantee {
        number: 10,
        name: "taken back",
        sentence: "An alert that was taken back is shown to nobody who asks for it afterwards, and whoever had it and \
             stays subscribed is told.",
        promised: "[protocol.md](protocol.md#taking-back)",
        check: "`check_strangers`, `check_removals`",
        weaker: "What is on its way to a client arrives; the removal follows it. Clients that receive `new_trending` \
             are not told, and a removal is lost where guarantee 2 says that an alert is. One that the Event API loses \
             is not told to those who have the alert: repeat the request.",
    },
    Guarantee {
        number: 11,
        name: "true canary",
        sentence: "The canary says that its alert arrived only if it did, and always where nothing goes wrong.",
        promised: "[operations.md](operations.md#the-synthetic-canary)",
        check: "`canary_ends`",
        weaker: "It may say that nothing arrived where the quota of the account refused the post.",
    },
    Guarantee {
        number: 12,
        name: "nothing viral missed",
        sentence: "Twelve minutes after the last fault what the scorer found is announced, and what it announced is \
             in the log.",
        promised: "[scoring.md](scoring.md)",
        check: "`check_announced`",
        weaker: "Counts that the feed does not deliver are not scored. Limits of alerts and of regions may refuse an \
             announcement, and where publish fails three times somebody has to drive the dead letter again.",
    },
];

/// Bytes of an item at most, as JSON: an alert of a frame, escaped, and what is around it.
const ITEM_BYTES_MAX: usize = 96 * 1024;

/// Milliseconds after which what a worker was delivering has arrived.
const LATE_MS: u64 = 30_000;

/// An alert of the log.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) video: Option<String>,
    pub(super) id: String,
    pub(super) epoch: i64,
    pub(super) committed_ms: i64,
    /// The score of its video.
    pub(super) score: Option<f64>,
}

impl Run {
    /// What is in the log, by region and number.
    pub(super) fn log(&self) -> BTreeMap<String, BTreeMap<u64, Logged>> {
        let mut log: BTreeMap<String, BTreeMap<u64, Logged>> = BTreeMap::new();
        for item in self.cloud.store().items("AlertsTable") {
            let number = |name: &str| item[name]["N"].as_str().and_then(|number| number.parse::<i64>().ok());
            let Some(region) = item["region"]["S"].as_str().filter(|region| !region.starts_with('@')) else { continue };
            let seq = number("seq").and_then(|seq| u64::try_from(seq).ok()).unwrap_or_default();
            let video = item["video"]["S"].as_str().and_then(|video| serde_json::from_str::<Value>(video).ok());
            let logged = Logged {
                committed_ms: number("committed_at").unwrap_or_default(),
                score: video.as_ref().and_then(|video| video["score"].as_f64()),
                video: video.and_then(|video| video["id"].as_str().map(str::to_owned)),
                id: item["id"]["S"].as_str().unwrap_or_default().to_owned(),
                epoch: number("epoch").unwrap_or_default(),
            };
            log.entry(region.to_owned()).or_default().insert(seq, logged);
        }
        log
    }

    /// Guarantee 1, and the limit of alerts.
    pub(super) fn check_log(&self) {
        let cloud = &self.cloud;
        let log = self.log();
        for (region, alerts) in &log {
            let numbers: Vec<u64> = alerts.keys().copied().collect();
            let count = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
            if numbers != (1..=count).collect::<Vec<_>>() {
                cloud.breaks(1, format!("the log of {region} has gaps: {numbers:?}"));
            }
        }
        let journal = lock(&self.journal);
        let removed: BTreeSet<&str> = journal.removals.iter().map(|removed| removed.video.as_str()).collect();
        for (video, published) in &journal.publications {
            let Published { region, answers, has_key, attempts, .. } = published;
            let places: Vec<(u64, &Logged)> = log
                .get(region)
                .into_iter()
                .flatten()
                .filter(|(_, logged)| logged.video.as_deref() == Some(video))
                .map(|(seq, logged)| (*seq, logged))
                .collect();
            let was_removed = removed.contains(video.as_str());
            let most = if *has_key { 1 } else { (*attempts).max(1) as usize };
            if places.len() > most {
                cloud.breaks(1, format!("{video} is in the log {} times: {answers:?}", places.len()));
            }
            for told in answers {
                match told {
                    Told::Published { epoch, seq, id } => {
                        let is_there = log.get(region).and_then(|alerts| alerts.get(seq)).is_some_and(|logged| {
                            logged.epoch == *epoch
                                && logged.id == *id
                                && (logged.video.as_deref() == Some(video) || was_removed || logged.video.is_none())
                        });
                        if !is_there {
                            cloud.breaks(1, format!("{video} was published at {seq} of {region}, and is not there"));
                        }
                    }
                    Told::Refused(code) if !matches!(code.as_str(), "outcome_unknown") => {
                        // Of several attempts another one may have published it.
                        if answers.len() == 1 && *attempts == 1 && !places.is_empty() {
                            cloud.breaks(1, format!("{video} was refused with {code}, and is in the log"));
                        }
                    }
                    Told::Refused(_) | Told::Nothing => {}
                }
            }
        }
        for (video, published) in &journal.publications {
            let failed = published.answers.iter().find(|told| match told {
                Told::Nothing => true,
                Told::Refused(code) => code == "unavailable" || code == "outcome_unknown",
                Told::Published { .. } => false,
            });
            if let Some(failed) = failed
                && cloud.planned().has_sound_functions()
            {
                cloud.breaks(7, format!("nothing goes wrong in the database, and {video} is answered with {failed:?}"));
            }
        }
        let regions = log.keys().filter(|region| *region != CANARY).count();
        if regions > cloud.settings.regions_max as usize {
            cloud.breaks(7, format!("{regions} regions have a log, and {} may", cloud.settings.regions_max));
        }
        let known = |video: &str| journal.publications.contains_key(video);
        for (region, alerts) in &log {
            for logged in alerts.values().filter(|logged| logged.video.as_deref().is_some_and(|video| !known(video))) {
                cloud.breaks(3, format!("{:?} in {region} was published by nobody who may", logged.video));
            }
        }
    }

    /// Guarantee 2 on the wire: whoever was subscribed when an alert was published, and still is, was sent it; and so
    /// was whoever was told, when it subscribed, that the log ends before it.
    pub(super) fn check_deliveries(&self) {
        let log = self.log();
        let journal = lock(&self.journal);
        let open = |visit: &&Visit| visit.closed_ms.is_none() && self.cloud.is_open(&visit.id);
        for (region, alerts) in &log {
            for (seq, logged) in alerts {
                let Some(video) = &logged.video else { continue };
                let Some(published) = journal.publications.get(video) else { continue };
                for visit in journal.visits.iter().filter(open) {
                    let is_later = visit.heads.get(region).is_some_and(|head| *head < (logged.epoch, *seq))
                        && visit.is_subscribed_since(region, u64::MAX);
                    let has_it = visit
                        .received
                        .iter()
                        .any(|it| it.region == *region && it.seq == *seq && it.epoch == logged.epoch);
                    let was_lost = visit.is_on_events
                        || self.cloud.was_over_quota(&visit.id)
                        || !self.cloud.settings.has_operator && self.cloud.was_undelivered(region, *seq);
                    if (is_later || visit.is_subscribed_since(region, published.sent_ms)) && !has_it && !was_lost {
                        let Visit { client, id, .. } = visit;
                        self.cloud.breaks(
                            2,
                            format!("{client} stayed connected as {id}, and was not sent {video}, {seq} of {region}"),
                        );
                    }
                }
            }
        }
    }

    /// Guarantee 2 in our client: each application hears everything of its regions once and in order, or of a gap.
    pub(super) fn check_applications(&self) {
        let log = self.log();
        let journal = lock(&self.journal);
        for (client, told) in &journal.told {
            let breaks = |message: String| self.cloud.breaks(2, format!("the application of {client}: {message}"));
            // Where each region stands, and what is watched. Under ALL a region that is not known begins with its log.
            let mut at: BTreeMap<&str, (i64, u64)> = BTreeMap::new();
            let mut watched: BTreeSet<&str> = BTreeSet::new();
            for heard in told {
                match heard {
                    Heard::Subscribed { region, positions } => {
                        watched.insert(region);
                        for (name, position) in positions {
                            at.entry(name).or_insert(*position);
                        }
                    }
                    Heard::Unwatched { region } => {
                        watched.remove(region.as_str());
                        if watched.contains("ALL") {
                            continue;
                        }
                        at.retain(|name, _| region != "ALL" && *name != region || watched.contains(name));
                    }
                    Heard::Alert { region, epoch, seq, is_for_everyone } => {
                        let is_watched = watched.contains(region.as_str()) || watched.contains("ALL");
                        if !is_watched {
                            if !is_for_everyone {
                                breaks(format!("it was told {seq} of {region}, which it does not watch"));
                            }
                            continue;
                        }
                        let place = at.entry(region).or_insert((*epoch, 0));
                        // A gap at the beginning of a log does not say which log.
                        let next = if place.0 == *epoch || place.0 == 0 { place.1 + 1 } else { 1 };
                        if *seq != next || *epoch < place.0 {
                            breaks(format!("it was told {seq} of {region} of {epoch} after {place:?}"));
                        }
                        *place = (*epoch, *seq);
                    }
                    Heard::Removed { region, epoch, seq } => {
                        if !watched.contains(region.as_str()) && !watched.contains("ALL") {
                            continue;
                        }
                        let place = at.entry(region).or_insert((*epoch, 0));
                        let next = if place.0 == *epoch || place.0 == 0 { place.1 + 1 } else { 1 };
                        if *epoch >= place.0 && *seq == next {
                            *place = (*epoch, *seq);
                        }
                    }
                    Heard::Gap { region, from, to } => {
                        if watched.contains("ALL") {
                            at.entry(region).or_default();
                        }
                        let Some(place) = at.get_mut(region.as_str()) else { continue };
                        if *from != place.1 + 1 {
                            breaks(format!("it was told of a gap of {region} from {from} on after {place:?}"));
                        }
                        *place = (place.0, to.unwrap_or(place.1));
                    }
                }
            }
            for region in watched
                .iter()
                .filter(|region| journal.watched.get(client).is_none_or(|now| now.iter().any(|it| it == **region)))
            {
                let logs = log.iter().filter(|(name, _)| name == region || (*region == "ALL" && *name != CANARY));
                for (name, alerts) in logs {
                    let head = alerts.last_key_value().map(|(seq, logged)| (logged.epoch, *seq));
                    let place = at.get(name.as_str()).copied();
                    let place =
                        place.map(|(epoch, seq)| (if epoch == 0 { head.map_or(0, |it| it.0) } else { epoch }, seq));
                    // What a function that died has left of its connections keeps their seats.
                    let may_be_behind =
                        journal.without_seat.contains(client) && !self.cloud.planned().ends_connections();
                    if !may_be_behind && (place.is_some() && place != head || place.is_none() && *region == "ALL") {
                        breaks(format!("it has come to {place:?} of {name}, whose log ends at {head:?}"));
                    }
                }
            }
        }
    }

    /// Guarantee 4: those who are subscribed in a calm world are sent an alert.
    pub(super) fn check_probes(&self, regions: &BTreeSet<String>, sent_ms: u64) {
        let journal = lock(&self.journal);
        for region in regions {
            let video = format!("probe-{region}");
            if !journal.publications.contains_key(&video) {
                continue;
            }
            for visit in
                journal.visits.iter().filter(|visit| visit.closed_ms.is_none() && self.cloud.is_open(&visit.id))
            {
                let has_it =
                    visit.received.iter().any(|it| it.video.as_deref() == Some(&video) && it.answers_ms.is_none());
                if visit.is_subscribed_since(region, sent_ms) && !has_it && !visit.is_on_events {
                    let Visit { client, id, .. } = visit;
                    self.cloud.breaks(4, format!("{client} is connected as {id}, subscribed to {region}, and deaf"));
                }
            }
        }
    }

    /// Guarantees 3 and 10: what everybody was sent, they may have.
    pub(super) fn check_strangers(&self) {
        let cloud = &self.cloud;
        let log = self.log();
        let journal = lock(&self.journal);
        for visit in &journal.visits {
            let Visit { client, id, allowed, .. } = visit;
            for received in &visit.received {
                let region = &received.region;
                let Some(video) = &received.video else { continue };
                let logged = log.get(region).and_then(|alerts| alerts.get(&received.seq));
                if let Some(Logged { video: Some(there), id: there_id, epoch, .. }) = logged
                    && *epoch == received.epoch
                    && (there != video || *there_id != received.id)
                {
                    cloud.breaks(3, format!("{client} as {id} was sent {video} in place of {there} of {region}"));
                }
                let Some(published) = journal.publications.get(video) else { continue };
                if published.region != *region {
                    cloud.breaks(3, format!("{client} as {id} was sent {video} of {} in {region}", published.region));
                }
                if allowed.as_ref().is_some_and(|allowed| !allowed.contains(region)) {
                    cloud.breaks(
                        3,
                        format!("{client} as {id} was sent {video} of {region}, which its token does not allow"),
                    );
                }
                if received.is_for_everyone {
                    if region == CANARY || !cloud.settings.falls_back_to_everyone() {
                        cloud.breaks(3, format!("{client} as {id} was sent {video} of {region} as everyone was"));
                    }
                    continue;
                }
                if !visit.may_receive(region, published.sent_ms) {
                    cloud.breaks(
                        3,
                        format!("{client} as {id} was sent {video} of {region}, which it is not subscribed to"),
                    );
                }
                let removal =
                    journal.removals.iter().find(|removed| removed.video == *video && removed.seq == received.seq);
                if let (Some(removed), None) = (removal, received.answers_ms)
                    && received.at_ms > removed.answered_ms + LATE_MS
                    && cloud.calm_since_ms().is_some_and(|calm_ms| received.at_ms > calm_ms + LATE_MS)
                {
                    cloud.breaks(10, format!("{client} as {id} was sent {video} long after it was taken back"));
                }
                if let (Some(removed), Some(asked_ms)) = (removal, received.answers_ms)
                    && removed.answered_ms < asked_ms
                {
                    cloud.breaks(10, format!("{client} asked for {video} after it was taken back, and was sent it"));
                }
            }
        }
        for removed in &journal.removals {
            let items = cloud.store().items("AlertsTable");
            // Of an alert that was published several times, another copy may be there.
            let copies = journal.publications.get(&removed.video).map_or(0, |published| published.attempts);
            let title = format!("Title of {}\"", removed.video).replace('"', "\\\"");
            if copies == 1 && items.iter().any(|item| item.to_string().contains(&title)) {
                cloud.breaks(10, format!("the content of {} is left in the alerts table", removed.video));
            }
        }
    }

    /// Guarantee 5: of connections that have ended, marks are left.
    pub(super) fn check_traces(&self) {
        let cloud = &self.cloud;
        for item in cloud.store().items("SubscriptionsTable") {
            let partition = item["audience"]["S"].as_str().unwrap_or_default();
            let id = item["connection_id"]["S"].as_str().or(partition.strip_prefix("@connection#")).unwrap_or_default();
            let is_mark = partition.starts_with("@connection#") && item["closed"].is_object();
            if !is_mark && cloud.has_disconnected(id) {
                cloud.breaks(5, format!("{id} has disconnected, and left {item}"));
            }
        }
    }

    /// Guarantee 4: what is noted of an open connection is written, or a keepalive would not see what is missing.
    pub(super) fn check_states(&self) {
        let items = self.cloud.store().items("SubscriptionsTable");
        let mut written: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for item in &items {
            let audience = item["audience"]["S"].as_str().unwrap_or_default();
            let is_seat = item["slot"]["S"].as_str().is_some_and(|slot| slot.starts_with("seat#"));
            if let Some(id) = item["connection_id"]["S"].as_str().filter(|_| audience != "@everyone" && !is_seat) {
                written.entry(id).or_default().insert(audience);
            }
        }
        for item in &items {
            let Some(id) = item["audience"]["S"].as_str().and_then(|key| key.strip_prefix("@connection#")) else {
                continue;
            };
            if !self.cloud.is_open(id) {
                continue;
            }
            let noted: BTreeSet<&str> =
                item["audiences"]["SS"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let written = written.get(id).cloned().unwrap_or_default();
            // A message that failed may have noted what it could not write; it was answered so, and is sent again.
            if noted != written && self.cloud.planned().has_sound_functions() {
                self.cloud.breaks(4, format!("{id} is noted in {noted:?}, and written in {written:?}"));
            }
        }
    }

    /// Guarantee 9 for all alerts together.
    pub(super) fn check_bill(&self) {
        let regions = self.log().len();
        if regions <= REGIONS.len() {
            self.cloud.check_bill_of_alerts(regions);
        }
    }

    /// Guarantee 8: no item grows beyond its bound.
    pub(super) fn check_sizes(&self) {
        for table in ["AlertsTable", "SubscriptionsTable"] {
            for item in self.cloud.store().items(table) {
                let bytes = item.to_string().len();
                if bytes > ITEM_BYTES_MAX {
                    self.cloud.breaks(8, format!("an item of {table} has {bytes} bytes: {}", item["region"]));
                }
            }
        }
    }
}
