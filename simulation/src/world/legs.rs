//! Which leg a client that knows the Event API uses, and the log over HTTP, which tells of the legs: the part of
//! `client/src/viral-alerts-events.ts` that all connections of a page have in common.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    clients::{
        order::Position,
        ours::{ALL, cursor},
    },
    cloud::lock,
    world::clients::Client,
};

// The bounds of `client/src/limits.ts`.
const ANSWER: Duration = Duration::from_secs(15);
pub(super) const FALLBACK: Duration = Duration::from_secs(4);
const PAGES_MAX: usize = 100;

pub(super) type Positions = BTreeMap<String, Position>;

/// Which Event API the service has told of, and for how many clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Leg {
    url: String,
    pub(super) host: String,
    share: u32,
}

/// What all sockets of one client have in common.
pub(super) struct Legs {
    pub(super) client: Arc<Client>,
    /// The regions with which the page begins.
    regions: Vec<String>,
    known: Mutex<Known>,
}

struct Known {
    /// Which share of the clients this one belongs to.
    draw: u32,
    /// What the service told last; `Some(None)` if that was that there is none.
    leg: Option<Option<Leg>>,
    /// Whether the last request for the log had an answer of the service. Without it there is nothing to begin with.
    is_readable: bool,
    /// The leg did not serve, so the next connection is another one.
    avoids: bool,
    /// What ends connections to the Event API that have not opened yet, by their number in our client.
    opening: BTreeMap<u32, oneshot::Sender<()>>,
}

impl Known {
    /// The Event API that is meant for this client.
    fn meant(&self) -> Option<&Leg> {
        self.leg.as_ref()?.as_ref().filter(|leg| self.draw < leg.share)
    }
}

/// Which leg a connection is opened on.
pub(super) enum Way {
    Events(Leg),
    /// The WebSocket API. `stays`: also if the service tells of an Event API.
    Gateway {
        stays: bool,
    },
}

/// A request over HTTP that was not answered with a page.
pub(super) struct NotRead {
    pub(super) status: u16,
    pub(super) code: Option<String>,
}

/// What was read of the log, as fields of an answer to a subscription.
#[derive(Default, Serialize)]
pub(super) struct Found {
    pub(super) positions: Positions,
    pub(super) alerts: Vec<Value>,
    pub(super) removed: Vec<Value>,
    pub(super) not_recovered: Vec<Value>,
}

impl Legs {
    pub(super) fn new(client: &Arc<Client>, regions: &[String]) -> Arc<Self> {
        let draw = client.draw_events(100.0) as u32;
        let opening = BTreeMap::new();
        let known = Mutex::new(Known { draw, leg: None, is_readable: false, avoids: false, opening });
        Arc::new(Self { client: Arc::clone(client), regions: regions.to_vec(), known })
    }

    /// Takes from an answer of the service what it says of the Event API.
    fn learn(&self, answer: &Value) {
        lock(&self.known).leg = Some(Leg::deserialize(&answer["events"]).ok());
    }

    /// Takes a frame of the WebSocket API. Whether that connection is to be left, unless it stays.
    pub(super) fn moves_away(&self, frame: &str) -> bool {
        let answer: Value = serde_json::from_str(frame).unwrap_or_default();
        if answer["type"] != "subscribed" {
            return false;
        }
        self.learn(&answer);
        lock(&self.known).meant().is_some()
    }

    /// Whether a connection to this Event API is still the one that this client is meant to have.
    pub(super) fn means(&self, leg: &Leg) -> bool {
        lock(&self.known).meant().is_some_and(|meant| meant.url == leg.url)
    }

    /// Uses the WebSocket API for the next connection.
    pub(super) fn avoid(&self) {
        lock(&self.known).avoids = true;
    }

    /// Notes that a connection to the Event API is being opened. What is returned comes if it is abandoned before.
    pub(super) fn opens(&self, socket: u32) -> oneshot::Receiver<()> {
        let (ends, abandoned) = oneshot::channel();
        lock(&self.known).opening.insert(socket, ends);
        abandoned
    }

    /// Notes that a connection to the Event API has opened, or has ended.
    pub(super) fn has_opened(&self, socket: u32) {
        lock(&self.known).opening.remove(&socket);
    }

    /// Closes a connection to the Event API that has not opened. False if there is none.
    pub(super) fn abandon(&self, socket: u32) -> bool {
        lock(&self.known).opening.remove(&socket).is_some_and(|ends| ends.send(()).is_ok())
    }

    /// Which leg the next connection is opened on.
    pub(super) async fn choose(self: &Arc<Self>) -> Way {
        let asks = {
            let known = lock(&self.known);
            !known.is_readable && !known.avoids && (known.leg.is_none() || known.meant().is_some())
        };
        if asks {
            let (legs, first) = (Arc::clone(self), self.regions.first().map_or(ALL, String::as_str).to_owned());
            let asked = tokio::spawn(async move { legs.query(&[first], "limit", "1").await.ok() });
            drop(timeout(FALLBACK, asked).await);
        }
        let mut known = lock(&self.known);
        let stays = std::mem::take(&mut known.avoids) || !known.is_readable;
        known.meant().filter(|_| !stays).cloned().map_or(Way::Gateway { stays }, Way::Events)
    }

    async fn query(self: &Arc<Self>, asked: &[String], name: &str, value: &str) -> Result<Value, NotRead> {
        let (client, query) = (Arc::clone(&self.client), json!({"region": asked.join(","), name: value}));
        let request = tokio::spawn(async move { client.get_alerts(query).await });
        let answered = timeout(ANSWER, request).await;
        let (status, body) = answered.ok().and_then(Result::ok).unwrap_or((500, String::new()));
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let code = answer["error"]["code"].as_str().map(str::to_owned);
        // A refusal of the service is an answer too.
        lock(&self.known).is_readable = status == 200 || status == 429 || code.is_some() && status < 500;
        if status != 200 {
            return Err(NotRead { status, code });
        }
        self.learn(&answer);
        Ok(answer)
    }

    /// Reads the log of some regions after positions. Without positions it reads where the logs end.
    pub(super) async fn read(self: &Arc<Self>, asked: &[String], since: Option<Positions>) -> Result<Found, NotRead> {
        let has_all = since.is_some() && asked.first().is_some_and(|region| region == ALL);
        let mut found = Found { positions: since.unwrap_or_default(), ..Found::default() };
        let mut before = None;
        for _ in 0..PAGES_MAX {
            let after = cursor(found.positions.clone(), has_all);
            // A page that does not move the cursor is the last one.
            if before.as_ref() == Some(&after) {
                break;
            }
            let (name, value) = if after.is_empty() { ("limit", "1") } else { ("after", after.as_str()) };
            let mut answer = self.query(asked, name, value).await?;
            found.positions.extend(Positions::deserialize(&answer["positions"]).unwrap_or_default());
            if after.is_empty() {
                break;
            }
            let mut list = |name: &str| answer[name].as_array_mut().map(std::mem::take).unwrap_or_default();
            found.alerts.extend(list("alerts"));
            found.removed.extend(list("removed"));
            found.not_recovered.extend(list("not_recovered"));
            if answer["more"] != true {
                break;
            }
            before = Some(after);
        }
        Ok(found)
    }
}

impl Client {
    /// A number from 0 to `most`, of a lane of its own.
    pub(super) fn draw_events(&self, most: f64) -> f64 {
        self.run.cloud.draw(&format!("events of {}", self.name), |random| random.random_range(0.0..most))
    }
}
