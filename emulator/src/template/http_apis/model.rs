//! APIs that answer HTTP requests, as they are served: HTTP APIs and REST APIs.

use std::{collections::BTreeMap, time::Duration};

use regex::Regex;
use serde_json::Value;

use crate::template::throttles::Throttles;

/// The stage of an HTTP API that is no part of its paths, and the route for everything that no other route matches.
pub(crate) const DEFAULT: &str = "$default";

/// The method of a route for all methods.
pub(crate) const ANY: &str = "ANY";

/// The kind of an API. They differ in events, responses and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpApiKind {
    /// `AWS::ApiGatewayV2::Api` with the protocol HTTP.
    Http,
    /// `AWS::ApiGateway::RestApi`.
    Rest,
}

impl HttpApiKind {
    /// Its name in the documentation of AWS.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP API",
            Self::Rest => "REST API",
        }
    }
}

/// An API with its one stage.
#[derive(Clone, Debug)]
pub(crate) struct HttpApi {
    /// Its logical id.
    pub(crate) name: String,
    /// Ten lower-case letters and digits.
    pub(crate) api_id: String,
    pub(crate) kind: HttpApiKind,
    /// The first segment of the paths of its address, unless it is [`DEFAULT`].
    pub(crate) stage: String,
    pub(crate) stage_variables: BTreeMap<String, String>,
    pub(crate) routes: Vec<HttpRoute>,
    /// CORS configuration of an HTTP API. Those of REST APIs are routes for OPTIONS.
    pub(crate) cors: Option<Cors>,
    pub(crate) throttles: Throttles,
    /// Media types that a REST API passes on as base64.
    pub(crate) binary_types: Vec<String>,
    /// What a REST API adds to its own errors.
    pub(crate) error_headers: ErrorHeaders,
    /// The statements of the resource policy of a REST API, if it has one, or why it cannot be read.
    pub(crate) policy: Option<Result<Vec<Value>, String>>,
    /// Why routes of it are missing.
    pub(crate) unserved: Option<String>,
    /// Whether the template declares it. Routes may name an API that another template declares.
    pub(super) is_declared: bool,
}

impl HttpApi {
    pub(super) fn new(name: &str, api_id: &str, kind: HttpApiKind) -> Self {
        Self {
            name: name.to_owned(),
            api_id: api_id.to_owned(),
            kind,
            stage: DEFAULT.to_owned(),
            stage_variables: BTreeMap::new(),
            routes: Vec::new(),
            cors: None,
            throttles: Throttles::default(),
            binary_types: Vec::new(),
            error_headers: ErrorHeaders::default(),
            policy: None,
            unserved: None,
            is_declared: true,
        }
    }

    /// Adds statements to its resource policy. What cannot be read leaves nothing of it that can be evaluated.
    pub(super) fn restrict(&mut self, statements: Result<Vec<Value>, String>) {
        self.policy = Some(match (self.policy.take(), statements) {
            (Some(Ok(known)), Ok(more)) => Ok([known, more].concat()),
            (Some(Err(reason)), _) | (_, Err(reason)) => Err(reason),
            (None, Ok(statements)) => Ok(statements),
        });
    }

    /// Serves nothing of it, for this reason.
    pub(super) fn close(&mut self, reason: String) {
        for route in &mut self.routes {
            route.authorization = HttpAuthorization::Unserved(reason.clone());
        }
        self.unserved = Some(reason);
    }

    /// Adds what another template says of the same API.
    pub(super) fn merge(&mut self, other: Self) {
        let (declared, mut routes) = match other.is_declared {
            true => (other, std::mem::take(&mut self.routes)),
            false => (std::mem::replace(self, Self::new("", "", other.kind)), other.routes),
        };
        *self = declared;
        self.routes.append(&mut routes);
    }
}

/// Headers of errors that the gateway answers with itself. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorHeaders {
    /// With a status of 4xx.
    pub(crate) client: BTreeMap<String, String>,
    /// With a status of 5xx.
    pub(crate) server: BTreeMap<String, String>,
}

/// A route of an API.
#[derive(Clone, Debug)]
pub(crate) struct HttpRoute {
    /// The method in upper case, or [`ANY`].
    pub(crate) method: String,
    /// The path, with `{name}` where a segment is a parameter and `{name+}` where the rest is, or [`DEFAULT`].
    pub(crate) path: String,
    /// What answers.
    pub(crate) backend: RouteBackend,
    /// Who may use it.
    pub(crate) authorization: HttpAuthorization,
    /// Scopes of which a token has to have one. Without any, every token may.
    pub(crate) scopes: Vec<String>,
    /// Whether a request has to have an API key.
    pub(crate) needs_api_key: bool,
}

impl HttpRoute {
    pub(super) fn new(method: &str, path: &str, backend: RouteBackend) -> Self {
        let method = if method == "*" { ANY.to_owned() } else { method.to_ascii_uppercase() };
        Self {
            method,
            path: path.to_owned(),
            backend,
            authorization: HttpAuthorization::None,
            scopes: Vec::new(),
            needs_api_key: false,
        }
    }

    /// The route key, `GET /path` or `$default`.
    pub(crate) fn key(&self) -> String {
        match self.path.as_str() {
            DEFAULT => DEFAULT.to_owned(),
            path => format!("{} {path}", self.method),
        }
    }

    /// Names of the functions that it invokes.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &str> {
        let backend = match &self.backend {
            RouteBackend::Lambda { function, .. } => Some(function.as_str()),
            RouteBackend::Http(_) | RouteBackend::Mock(_) | RouteBackend::Unserved(_) => None,
        };
        let authorizer = match &self.authorization {
            HttpAuthorization::Lambda(authorizer) => Some(authorizer.function.as_str()),
            _ => None,
        };
        backend.into_iter().chain(authorizer)
    }

    /// Why it is not served, if it is not.
    pub(crate) fn unserved(&self) -> Option<&str> {
        match (&self.backend, &self.authorization) {
            (RouteBackend::Unserved(reason), _) | (_, HttpAuthorization::Unserved(reason)) => Some(reason),
            _ => None,
        }
    }
}

/// The form of an event of an HTTP API. REST APIs have their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadVersion {
    /// As REST APIs have it, with a version.
    V1,
    V2,
}

/// What answers a request.
#[derive(Clone, Debug)]
pub(crate) enum RouteBackend {
    /// Lambda proxy.
    Lambda {
        /// Name of the function.
        function: String,
        payload: PayloadVersion,
        /// Longest time to wait for it.
        timeout: Duration,
    },
    /// HTTP proxy.
    Http(ProxiedServer),
    /// Always the same.
    Mock(MockResponse),
    /// Nothing, for this reason.
    Unserved(String),
}

/// A server that gets the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxiedServer {
    /// The method of its requests. None is that of the client.
    pub(crate) method: Option<String>,
    /// Its address, with `{name}` where a parameter of the path is written.
    pub(crate) uri: String,
    pub(crate) timeout: Duration,
}

/// The response of a MOCK integration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MockResponse {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// Which requests a route accepts.
#[derive(Clone, Debug)]
pub(crate) enum HttpAuthorization {
    /// All.
    None,
    /// Those that are signed.
    Iam,
    /// Those that a function allows.
    Lambda(HttpAuthorizer),
    /// Those with a token of an issuer.
    Jwt(JwtAuthorizer),
    /// None, because the emulator cannot decide, for this reason.
    Unserved(String),
}

/// A function that decides about requests.
#[derive(Clone, Debug)]
pub(crate) struct HttpAuthorizer {
    /// Name of the function.
    pub(crate) function: String,
    pub(crate) input: AuthorizerInput,
    /// Whether it answers with `isAuthorized` instead of a policy.
    pub(crate) is_simple: bool,
}

/// What an authorizer decides by.
#[derive(Clone, Debug)]
pub(crate) enum AuthorizerInput {
    /// A header, which matches a pattern.
    Token { header: String, pattern: Option<Regex> },
    /// The whole request, which has these parts. REST APIs have their own form of it, and no version.
    Request { sources: Vec<HttpIdentitySource>, payload: PayloadVersion },
}

/// A part of a request that identifies the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HttpIdentitySource {
    Header(String),
    Query(String),
    /// A value that is always the same: a variable of the stage.
    Constant(String),
}

/// Tokens of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwtAuthorizer {
    /// Where the token is.
    pub(crate) source: HttpIdentitySource,
    /// Its claim `iss`, which is the address of the issuer.
    pub(crate) issuer: String,
    /// One of them is its claim `aud`, or `client_id`. `None` for a Cognito user pool, whose tokens are for all of its
    /// clients: for routes with scopes access tokens, for others identity tokens.
    pub(crate) audiences: Option<Vec<String>>,
}

/// CORS configuration of an HTTP API: what pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cors {
    /// Origins, `*`, `https://*` or `http://*`.
    pub(crate) origins: Vec<String>,
    /// Methods, or `*`.
    pub(crate) methods: Vec<String>,
    /// Request headers, or `*`.
    pub(crate) headers: Vec<String>,
    /// Response headers that a page may read, or `*`.
    pub(crate) exposed: Vec<String>,
    /// Seconds for which a browser may cache the response to a preflight.
    pub(crate) max_age_secs: Option<u64>,
    /// Whether a page may send cookies and other credentials.
    pub(crate) credentials: bool,
}
