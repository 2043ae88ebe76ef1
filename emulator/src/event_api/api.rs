//! The Event APIs of a template, and what they share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clock::Clock;
use hyper::{
    HeaderMap, Method,
    header::{HOST, ORIGIN},
    http::request::Parts,
};

use super::{
    addresses::{PUBLISH, REALTIME},
    answers::KeptAnswers,
    limits::{CONNECTIONS_MAX, CONNECTS_PER_SEC, EVENTS_PER_SEC},
    shared_parts::SharedParts,
    subscriptions::{Session, Subscriptions},
};
use crate::{
    faults::Faults,
    gateway::{ConnectionSummary, Connections, GatewayOptions, SendError, upgrades},
    http,
    lambda::Functions,
    rate::TokenBucket,
    recorder::Recorder,
    template::EventApi,
};

/// The Event APIs of a template.
#[derive(Debug)]
pub(crate) struct EventApis {
    pub(super) apis: Vec<Arc<ServedEventApi>>,
    pub(super) shared: Arc<SharedParts>,
}

/// An Event API with its subscriptions.
#[derive(Debug)]
pub(super) struct ServedEventApi {
    pub(super) api: EventApi,
    pub(super) subscriptions: Arc<Subscriptions>,
    connections: Connections,
    /// The open sockets by the ids of their connections.
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Answers of its authorizer.
    pub(super) answers: KeptAnswers,
    /// Its quotas. `None` without quotas.
    connects: Option<Mutex<TokenBucket>>,
    events: Option<Mutex<TokenBucket>>,
    pub(super) shared: Arc<SharedParts>,
}

impl EventApis {
    /// Makes the Event APIs with the options of a gateway. Their time limits are divided by `time_scale`.
    pub(crate) fn new(
        apis: Vec<EventApi>,
        options: &GatewayOptions,
        time_scale: f64,
        functions: Arc<Functions>,
        clock: Clock,
        faults: Arc<Faults>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let shared = Arc::new(SharedParts::new(options, time_scale, functions, clock, faults, recorder));
        let served = |api| {
            Arc::new(ServedEventApi {
                api,
                subscriptions: Arc::default(),
                connections: Connections::default(),
                sessions: Mutex::default(),
                answers: KeptAnswers::default(),
                connects: shared.bucket(CONNECTS_PER_SEC),
                events: shared.bucket(EVENTS_PER_SEC),
                shared: Arc::clone(&shared),
            })
        };
        Self { apis: apis.into_iter().map(served).collect(), shared }
    }

    /// Finds the API of a request, with the path below it. `NAME.localhost` as its host, or `/NAME` before its path,
    /// selects one of several; otherwise the first one of the template is meant.
    pub(super) fn find<'p>(&self, path: &'p str, headers: &HeaderMap) -> Option<(&Arc<ServedEventApi>, &'p str)> {
        let named = |name: &str| {
            let is_named = |api: &EventApi| api.name.eq_ignore_ascii_case(name) || api.api_id == name;
            self.apis.iter().find(|served| is_named(&served.api))
        };
        let host = http::host_and_port(headers.get(HOST)?.to_str().ok()?).0.to_ascii_lowercase();
        let is_whole = |path: &str| matches!(path, PUBLISH | REALTIME);
        let (api, path) = match host.strip_suffix(".localhost") {
            Some(name) => (named(name)?, path),
            None if is_whole(path) => (self.apis.first()?, path),
            None => {
                let (name, _) = path.strip_prefix('/')?.split_once('/')?;
                (named(name)?, &path[1 + name.len()..])
            }
        };
        is_whole(path).then_some((api, path))
    }

    /// Returns whether a page of another site may send a request. It may open a socket, about which the authorization
    /// decides, as at the gateway. It may publish if this machine serves it: the service lets in any page, but here a
    /// signature need not be right, and API keys are public.
    pub(crate) fn is_open_to(&self, request: &Parts) -> bool {
        let Some((_, path)) = self.find(request.uri.path(), &request.headers) else { return false };
        let origin = request.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        match path {
            REALTIME => request.method == Method::GET && upgrades(&request.headers),
            _ => origin.is_some_and(http::is_loopback_origin),
        }
    }

    /// Returns the number of open sockets.
    pub(crate) fn connected(&self) -> usize {
        self.apis.iter().map(|api| api.connections.count()).sum()
    }

    /// Returns the newest `max` sockets of each API whose id, address or user agent contains `part`, with its name, and
    /// the number of all matches.
    pub(crate) fn summaries(&self, part: &str, max: usize) -> (Vec<(&str, ConnectionSummary)>, usize) {
        let (mut all, mut found) = (Vec::new(), 0);
        for api in &self.apis {
            let (summaries, matches) = api.connections.summaries(part, max);
            all.extend(summaries.into_iter().map(|summary| (api.api.name.as_str(), summary)));
            found += matches;
        }
        (all, found)
    }

    /// Returns whether a socket is one of an Event API.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.open(id).is_ok()
    }

    /// An open socket, with its API.
    pub(super) fn open(&self, id: &str) -> Result<(&Arc<ServedEventApi>, Arc<Session>), SendError> {
        let found = |api: &'_ Arc<ServedEventApi>| api.sessions().get(id).map(Arc::clone);
        self.apis.iter().find_map(|api| Some((api, found(api)?))).ok_or(SendError::Gone)
    }

    /// Closes all sockets and forgets what authorizers answered.
    pub(crate) async fn disconnect_all(&self) {
        for api in &self.apis {
            api.connections.all().iter().for_each(|connection| connection.close());
            api.answers.forget();
        }
        self.finished().await;
    }

    /// Closes every socket with a close frame.
    pub(crate) async fn finish(&self) {
        self.shared.closing.cancel();
        self.finished().await;
    }

    async fn finished(&self) {
        // Only a closed tracker can be waited for. Tasks are still added to it.
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl ServedEventApi {
    /// Returns whether another client may connect.
    pub(super) fn has_room(&self) -> bool {
        !self.shared.closing.is_cancelled() && self.connections.count() < CONNECTIONS_MAX
    }

    /// Adds an open socket.
    pub(super) fn add(&self, session: &Arc<Session>) {
        let connection = Arc::clone(&session.connection);
        self.sessions().insert(connection.id.clone(), Arc::clone(session));
        self.connections.insert(connection);
    }

    /// Removes a socket, and ends its subscriptions.
    pub(super) fn remove(&self, session: &Session) {
        let id = &session.connection.id;
        self.connections.remove(id);
        self.sessions().remove(id);
        session.end_all(&self.subscriptions);
    }

    /// Ignores poisoning: each operation on the map is one call.
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token for a new connection. `false` if there is none.
    pub(super) fn admits_connect(&self) -> bool {
        self.shared.admits(self.connects.as_ref(), 1)
    }

    /// Takes a token for each event of a publish. `false` if there are not as many.
    pub(super) fn admits_events(&self, count: usize) -> bool {
        self.shared.admits(self.events.as_ref(), count)
    }
}
