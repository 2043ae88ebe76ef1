//! HTTP and REST APIs of a template, which share one address.
//!
//! A path that begins with the stage of an API is for that API, as under its own address. Any other path is for the API
//! with the most specific route, as behind a custom domain. The host name `NAME.localhost` selects one API.

mod addresses;
mod authorizer;
mod connection_headers;
mod cors;
mod event;
mod jwt;
mod proxy;
mod refusal;
mod resource_policy;
mod response;
mod routing;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use clock::Clock;
use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Bytes,
    header::{
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderValue,
        ORIGIN,
    },
    http::request::Parts,
};
use serde_json::json;

pub use self::addresses::HttpApiAddress;
pub(crate) use self::{addresses::addresses, resource_policy::policy_notes};
use self::{
    event::Incoming, jwt::Issuers, refusal::Refusal, resource_policy::ResourcePolicy, response::BackendFailure,
    routing::Match,
};
use crate::{
    gateway::{self, GatewayOptions},
    http::{self, Body, Request, TimedBody},
    http_client::HttpClient,
    lambda::{Functions, PAYLOAD_BYTES_MAX},
    policy::PolicyError,
    rate::{Quotas, RouteBuckets},
    template::{Cors, HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, PayloadVersion, RouteBackend, parameter},
};

/// Largest request. Source: API Gateway quotas for HTTP APIs and for REST APIs.
const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Largest request line and header values in total. Source: API Gateway quotas for HTTP APIs and for REST APIs.
const REQUEST_HEAD_BYTES_MAX: usize = 10_240;

/// Most headers of a request. Our own choice: the service has a limit of bytes alone.
const REQUEST_HEADERS_MAX: usize = 1_000;

/// Most routes that a 404 names.
const HINTS_MAX: usize = 8;

/// The HTTP and REST APIs of a template.
#[derive(Debug)]
pub(crate) struct HttpApis {
    apis: Vec<ServedApi>,
    /// Whether a path is the emulator's own. Only a route that begins with the same text takes it.
    is_own: fn(&str) -> bool,
    functions: Arc<Functions>,
    clock: Clock,
    /// Quotas of the account.
    quotas: Arc<Quotas>,
    check_signatures: bool,
    /// Longest that an integration may take, whatever the template says.
    integration_max: Option<Duration>,
    issuers: Issuers,
    client: Arc<HttpClient>,
}

/// An API with the throttles of its routes.
#[derive(Debug)]
struct ServedApi {
    api: HttpApi,
    buckets: RouteBuckets,
    policy: Option<Result<ResourcePolicy, PolicyError>>,
}

/// A route that a request takes.
#[derive(Clone, Debug)]
struct Found<'a, 'p> {
    served: &'a ServedApi,
    matching: Match<'a>,
    /// The path without the stage.
    path: &'p str,
}

impl HttpApis {
    pub(crate) fn new(
        apis: Vec<HttpApi>,
        is_own: fn(&str) -> bool,
        functions: Arc<Functions>,
        clock: Clock,
        quotas: Arc<Quotas>,
        options: &GatewayOptions,
        client: Arc<HttpClient>,
    ) -> Self {
        let served = |api: HttpApi| {
            let keys: Vec<String> = api.routes.iter().map(HttpRoute::key).collect();
            let throttled = keys.iter().map(String::as_str).filter(|_| options.throttles);
            let buckets = RouteBuckets::new(&api.throttles, throttled, clock.now());
            let policy = ResourcePolicy::of(&api);
            ServedApi { api, buckets, policy }
        };
        Self {
            apis: apis.into_iter().map(served).collect(),
            is_own,
            functions,
            quotas,
            check_signatures: options.check_signatures,
            integration_max: options.integration_timeout,
            issuers: Issuers::new(Arc::clone(&client)),
            client,
            clock,
        }
    }

    /// Responds to a preflight request of an HTTP API with CORS that has no route for it. A route for OPTIONS, `ANY` or
    /// `$default` gets such a request too, with its authorizer.
    fn preflight(&self, request: &Request) -> Option<Response<Body>> {
        let (path, headers) = (request.uri().path(), request.headers());
        let is_routed = || self.preflight_route(request.method(), path, headers).is_some();
        if *request.method() != Method::OPTIONS || (self.is_own)(path) || is_routed() {
            return None;
        }
        self.cors(request.method(), path, headers)?.preflight(request)
    }

    /// The route for the preflight of a request, or for a preflight itself. The route of another API is not: what that
    /// says of pages does not count for this request.
    fn preflight_route<'p>(&self, method: &Method, path: &'p str, headers: &HeaderMap) -> Option<Found<'_, 'p>> {
        let options = self.find(&Method::OPTIONS, path, headers)?;
        let asked = self.find(&asked_method(method, headers), path, headers);
        let is_of_another = asked.is_some_and(|asked| asked.served.api.api_id != options.served.api.api_id);
        (!is_of_another).then_some(options)
    }

    /// Returns whether a page of another site may send a request. Allowed are requests that only read, because browsers
    /// hide the response unless CORS allows it; preflights, if CORS is configured; and what CORS allows. The service
    /// runs functions for all other requests too. Here, that would let every page that you open run them.
    pub(crate) fn is_open_to(&self, request: &Parts) -> bool {
        let (method, path, headers) = (&request.method, request.uri.path(), &request.headers);
        let found = self.find(method, path, headers);
        let cors = || self.cors(method, path, headers);
        if *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            let is_mock = found.is_some_and(|found| matches!(found.matching.route.backend, RouteBackend::Mock(_)));
            // A page that CORS does not allow runs no function by its preflight either.
            let is_answered =
                |cors: &Cors| cors.allows_origin(headers) || self.preflight_route(method, path, headers).is_none();
            return is_mock
                || (!(self.is_own)(path) && cors().is_some_and(is_answered))
                || self.answers_preflights(method, path, headers);
        }
        let by_configuration = || cors().is_some_and(|cors| cors.allows(method, headers));
        if found.is_none() {
            // Which it is told.
            return !(self.is_own)(path) && by_configuration();
        }
        http::is_read(method)
            || by_configuration()
            || self.preflight_allows(method, path, headers)
            || self.answers_preflights(method, path, headers)
    }

    /// Whether the template routes preflights of a page that this machine serves to what decides about them itself,
    /// such as a function with a framework: the API has no CORS configuration.
    fn answers_preflights(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        let decides = |found: Found<'_, '_>| {
            let backend = &found.matching.route.backend;
            found.served.api.cors.is_none() && matches!(backend, RouteBackend::Lambda { .. } | RouteBackend::Http(_))
        };
        origin.is_some_and(http::is_loopback_origin) && self.preflight_route(method, path, headers).is_some_and(decides)
    }

    /// Whether the response to a preflight that is always the same allows a request of a page.
    fn preflight_allows(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let Some(found) = self.preflight_route(method, path, headers) else { return false };
        let RouteBackend::Mock(mock) = &found.matching.route.backend else { return false };
        let header = |name: &str| mock.headers.get(name).map(String::as_str).unwrap_or_default();
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        let allowed = header(ACCESS_CONTROL_ALLOW_ORIGIN.as_str());
        let methods = header(ACCESS_CONTROL_ALLOW_METHODS.as_str());
        let names = |name: &str| name == "*" || name.eq_ignore_ascii_case(method.as_str());
        !origin.is_empty() && (allowed == "*" || allowed == origin) && methods.split(',').map(str::trim).any(names)
    }

    /// Returns the CORS configuration for a request: that of the API of its route, or of the one that its preflight
    /// asks about. Without a route, that of the API that has another method of the path, or of the API of its stage, or
    /// of the first API that has one. If there is none, a page that this machine serves may read at any port, because
    /// development servers have a port of their own. A function that handles preflights decides itself.
    fn cors(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<&Cors> {
        let likely = [asked_method(method, headers), Method::GET, Method::POST];
        let found = likely.iter().find_map(|method| self.find(method, path, headers));
        let configured = match &found {
            Some(found) => found.served.api.cors.as_ref(),
            None => match self.of_stage(path, headers) {
                Some(served) => served.api.cors.as_ref(),
                None => self.apis_for(headers).find_map(|served| served.api.cors.as_ref()),
            },
        };
        let may_read = || {
            let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
            let has_route = |method: Method| self.find(&method, path, headers).is_some();
            origin.is_some_and(http::is_loopback_origin) && has_route(Method::GET) && !has_route(Method::OPTIONS)
        };
        configured.or_else(|| may_read().then_some(&*cors::READING))
    }

    /// The APIs that a request may be for: the one that its host name names, `NAME.localhost`, or all.
    fn apis_for(&self, headers: &HeaderMap) -> impl Iterator<Item = &ServedApi> {
        let named = self.named(headers);
        self.apis.iter().filter(move |served| named.is_none_or(|named| named.api_id == served.api.api_id))
    }

    /// The API that a request names by its host name.
    fn named(&self, headers: &HeaderMap) -> Option<&HttpApi> {
        let name = http::host_and_port(headers.get(HOST)?.to_str().ok()?).0.to_ascii_lowercase();
        let name = name.strip_suffix(".localhost")?;
        let mut apis = self.apis.iter().map(|served| &served.api);
        apis.find(|api| api.name.eq_ignore_ascii_case(name) || api.api_id == name)
    }

    /// The API whose stage a path begins with.
    fn of_stage(&self, path: &str, headers: &HeaderMap) -> Option<&ServedApi> {
        self.apis_for(headers).find(|served| routing::below_stage(&served.api, path).is_some())
    }

    /// Finds the route of a request.
    fn find<'p>(&self, method: &Method, path: &'p str, headers: &HeaderMap) -> Option<Found<'_, 'p>> {
        let staged: Vec<_> = self
            .apis_for(headers)
            .filter_map(|served| Some((served, routing::below_stage(&served.api, path)?)))
            .collect();
        let is_staged = !staged.is_empty();
        let unstaged = || best(method, self.apis_for(headers).map(|served| (served, path)));
        // A path with a stage is not for a route of another API that takes any path.
        let found = best(method, staged.into_iter());
        let found = found.or_else(|| unstaged().filter(|found| !is_staged || found.matching.fit.names_beginning()))?;
        let is_taken = (self.is_own)(path) && !found.matching.fit.names_beginning() && self.named(headers).is_none();
        (!is_taken).then_some(found)
    }

    /// Responds to a request if it has a route, or is a preflight that CORS answers. Otherwise gives it back.
    pub(crate) async fn handle(&self, request: Request, peer: SocketAddr) -> Result<Response<Body>, Request> {
        if let Some(response) = self.preflight(&request) {
            return Ok(response);
        }
        let (parts, body) = request.into_parts();
        let Some(found) = self.find(&parts.method, parts.uri.path(), &parts.headers) else {
            return Err(Request::from_parts(parts, body));
        };
        let now = self.clock.now();
        let request_id = gateway::new_request_id(now);
        let (uuid, trace_id) = (uuid::Uuid::new_v4().to_string(), event::new_trace_id(now));
        let incoming = Incoming {
            api: &found.served.api,
            route: found.matching.route,
            path: found.path,
            parameters: &found.matching.parameters,
            parts: &parts,
            peer,
            now,
            request_id: &request_id,
            uuid: &uuid,
            trace_id: &trace_id,
        };
        let answered = async {
            let body = self.admit(&incoming, &found.served.buckets, body).await?;
            let context = self.authorize(&incoming, found.served.policy.as_ref(), &body).await?;
            self.answer(&incoming, body, &context).await.map_err(Refusal::Backend)
        };
        let refused = |refusal: Refusal| response::with_error_headers(incoming.api, refusal.response(&incoming));
        let mut answer = answered.await.unwrap_or_else(refused);
        response::identify(&mut answer, &incoming);
        Ok(self.allowed(Some(found.served), &parts, answer))
    }

    /// Returns the body of a request that is not too large, nor one too many.
    async fn admit(&self, incoming: &Incoming<'_>, buckets: &RouteBuckets, body: TimedBody) -> Result<Bytes, Refusal> {
        let count = incoming.parts.headers.len();
        if head_bytes(incoming.parts) > REQUEST_HEAD_BYTES_MAX || count > REQUEST_HEADERS_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        // The throttle of the stage comes first: what it refuses does not count against the account's quota.
        if !buckets.admits(&incoming.route.key(), &self.clock) || !self.quotas.admits_request(&self.clock) {
            return Err(Refusal::TooMany);
        }
        let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await;
        Ok(body.map_err(|_| Refusal::TooLarge { bytes_max: REQUEST_BYTES_MAX })?.to_bytes())
    }

    /// A time limit, or that of all integrations if it is shorter.
    fn within(&self, timeout: Duration) -> Duration {
        self.integration_max.map_or(timeout, |max| timeout.min(max))
    }

    async fn answer(
        &self,
        incoming: &Incoming<'_>,
        body: Bytes,
        context: &event::AuthorizerContext,
    ) -> Result<Response<Body>, BackendFailure> {
        let key = incoming.route.key();
        match &incoming.route.backend {
            RouteBackend::Mock(mock) => Ok(response::of_mock(&incoming.api.name, mock)),
            RouteBackend::Unserved(reason) => Ok(response::unserved(&key, reason)),
            RouteBackend::Http(server) => {
                proxy::pass(&self.client, server, self.within(server.timeout), incoming, body).await
            }
            RouteBackend::Lambda { function, payload, timeout } => {
                let event = match (incoming.api.kind, payload) {
                    (HttpApiKind::Http, PayloadVersion::V2) => incoming.v2(&body, context),
                    _ => incoming.v1(&body, context),
                };
                let event = Bytes::from(event.to_string());
                if event.len() > PAYLOAD_BYTES_MAX {
                    let (bytes, bytes_max) = (event.len(), PAYLOAD_BYTES_MAX);
                    tracing::warn!(route = key, function, bytes, bytes_max, "event too large for Lambda");
                    return Err(BackendFailure::TooLarge);
                }
                let source = incoming.peer.to_string();
                let invoked = self.functions.invoke_for(&source, function, event);
                let answer = match tokio::time::timeout(self.within(*timeout), invoked).await {
                    // The log has the reason.
                    Ok(answer) => answer.map_err(|_| BackendFailure::Failed)?,
                    Err(_) => {
                        tracing::warn!(route = key, function, "function did not respond in time");
                        return Err(BackendFailure::TimedOut);
                    }
                };
                let response = response::of_function(incoming.api, *payload, &incoming.parts.headers, &answer);
                response.map_err(|reason| {
                    tracing::warn!(route = key, function, reason, "answer of the function is malformed");
                    BackendFailure::Failed
                })
            }
        }
    }

    /// Adds the configured CORS headers, those of the API whose route it is. If none are configured, those of the
    /// function stay.
    fn allowed(&self, served: Option<&ServedApi>, request: &Parts, mut response: Response<Body>) -> Response<Body> {
        let (method, headers) = (&request.method, &request.headers);
        let own = served.and_then(|served| served.api.cors.as_ref());
        let is_said = own.is_none() && response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        let cors = || own.or_else(|| self.cors(method, request.uri.path(), headers));
        if let (false, Some(cors)) = (is_said, cors()) {
            cors.apply(method, headers, response.headers_mut());
        }
        response
    }

    /// Responds to a request that nothing else answers. Says which routes there are, and what is not served.
    pub(crate) fn not_found(&self, request: &Parts) -> Response<Body> {
        let path = request.uri.path();
        let of_stage = self.of_stage(path, &request.headers);
        // What a REST API says of a path or a method that it does not have.
        let (status, message) = match of_stage.map(|served| served.api.kind) {
            Some(HttpApiKind::Rest) => (StatusCode::FORBIDDEN, "Missing Authentication Token"),
            _ => (StatusCode::NOT_FOUND, "Not Found"),
        };
        let mut body = json!({"message": message});
        if !self.apis.is_empty() {
            body["hint"] = json!(self.hint(request));
        }
        let mut response = http::json(status, &body);
        if status == StatusCode::FORBIDDEN {
            let kind = HeaderValue::from_static("MissingAuthenticationTokenException");
            response.headers_mut().insert("x-amzn-errortype", kind);
        }
        if let Some(served) = of_stage {
            response = response::with_error_headers(&served.api, response);
        }
        self.allowed(None, request, response)
    }

    fn hint(&self, request: &Parts) -> String {
        let path = request.uri.path();
        let shared = |route: &HttpRoute, below: &str| {
            let pairs = route.path.split('/').zip(below.split('/')).skip(1);
            pairs.take_while(|(own, asked)| own == asked || parameter(own).is_some()).count()
        };
        let mut near: Vec<(usize, String)> = Vec::new();
        for served in self.apis_for(&request.headers) {
            let below = routing::below_stage(&served.api, path).unwrap_or(path);
            near.extend(served.api.routes.iter().map(|route| (shared(route, below), route.key())));
        }
        near.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
        let mut seen = BTreeSet::new();
        let keys: Vec<String> = near.into_iter().map(|(_, key)| key).filter(|key| seen.insert(key.clone())).collect();
        let mut hint = format!("no route for {} {path}; ", request.method);
        hint += &match keys.len() {
            0 => "the template has no routes that are served".to_owned(),
            count if count <= HINTS_MAX => format!("the routes are {}", keys.join(", ")),
            count => format!("near it are {}, of {count} routes", keys[..HINTS_MAX].join(", ")),
        };
        for served in self.apis_for(&request.headers) {
            if let Some(reason) = &served.api.unserved {
                hint += &format!("; {} is not served as a whole: {reason}", served.api.name);
            }
        }
        hint
    }
}

/// The method of a request, or the one that it asks about as a preflight.
fn asked_method(method: &Method, headers: &HeaderMap) -> Method {
    let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| *method == Method::OPTIONS);
    asked.and_then(|asked| asked.to_str().ok()?.parse().ok()).unwrap_or_else(|| method.clone())
}

/// The best route of several APIs, each with the path that it sees. Of two that fit alike, the first.
fn best<'a, 'p>(method: &Method, apis: impl Iterator<Item = (&'a ServedApi, &'p str)>) -> Option<Found<'a, 'p>> {
    let mut best: Option<Found<'a, 'p>> = None;
    for (served, path) in apis {
        let Some(matching) = routing::best(&served.api, method.as_str(), path) else { continue };
        if best.as_ref().is_none_or(|best| matching.fit > best.matching.fit) {
            best = Some(Found { served, matching, path });
        }
    }
    best
}

/// Counts the bytes of the request line and the header values.
fn head_bytes(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = parts.method.as_str().len() + target + "  HTTP/1.1".len();
    line + parts.headers.values().map(HeaderValue::len).sum::<usize>()
}

/// A note on routes with `AWS_IAM`, whose signatures nothing checks without `--check-signatures`.
pub(crate) fn unsigned_note(apis: &[HttpApi]) -> Option<String> {
    let routes = apis.iter().flat_map(|api| &api.routes);
    let signed: Vec<_> = routes.filter(|route| matches!(route.authorization, HttpAuthorization::Iam)).collect();
    let first = signed.first()?.key();
    let more = match signed.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let who = "requests that are unsigned or wrongly signed";
    Some(format!("AWS_IAM of {first}{more} is not checked: {who} are let in without --check-signatures"))
}
