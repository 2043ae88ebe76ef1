//! What an Event API refuses with: a closed list of types, for frames and for HTTP.

use std::borrow::Cow;

use hyper::{Response, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use crate::{
    gateway::SignatureError,
    http::{self, Body},
};

/// The type of an error. Source: AppSync developer guide, "Understanding the Event API WebSocket protocol", and the
/// words that AWS's client for Android knows (`com.amazonaws.sdk.appsync.events`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unauthorized,
    BadRequest,
    /// A body that is not an object in JSON.
    Serialization,
    TooManySubscriptions,
    LimitExceeded,
    UnknownOperation,
    UnsupportedOperation,
    /// A handler refuses a subscription.
    Subscription,
    TooLarge,
    /// The key of a signature.
    UnrecognizedClient,
}

impl Refused {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "UnauthorizedException",
            Self::BadRequest | Self::TooLarge => "BadRequestException",
            Self::Serialization => "SerializationException",
            Self::TooManySubscriptions => "MaxSubscriptionsReachedError",
            Self::LimitExceeded => "LimitExceededError",
            Self::UnknownOperation => "UnknownOperationError",
            Self::UnsupportedOperation => "UnsupportedOperation",
            Self::Subscription => "SubscriptionProcessingError",
            Self::UnrecognizedClient => "UnrecognizedClientException",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UnrecognizedClient => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::LimitExceeded | Self::TooManySubscriptions => StatusCode::TOO_MANY_REQUESTS,
            Self::UnknownOperation => StatusCode::NOT_FOUND,
            Self::BadRequest | Self::Serialization | Self::UnsupportedOperation | Self::Subscription => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// Why an operation is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventError {
    pub(super) refused: Refused,
    /// In the words of the service where they are known.
    pub(super) message: Cow<'static, str>,
}

impl EventError {
    pub(super) const UNAUTHORIZED: Self = Self::new(Refused::Unauthorized, "You are not authorized to make this call.");
    pub(super) const THROTTLED: Self = Self::new(Refused::LimitExceeded, "Rate exceeded");

    pub(super) const fn new(refused: Refused, message: &'static str) -> Self {
        Self { refused, message: Cow::Borrowed(message) }
    }

    /// The list `errors` of a frame or a body.
    pub(super) fn list(&self) -> Value {
        let (name, code) = (self.refused.name(), self.refused.status().as_u16());
        json!([{"errorType": name, "errorCode": code, "message": self.message}])
    }

    /// A frame of this type, for the operation with this id.
    pub(super) fn frame(&self, kind: &str, id: Option<&str>) -> Value {
        match id {
            Some(id) => json!({"type": kind, "id": id, "errors": self.list()}),
            None => json!({"type": kind, "errors": self.list()}),
        }
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = http::json(self.refused.status(), &json!({"errors": self.list()}));
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.refused.name()));
        response
    }
}

impl From<SignatureError> for EventError {
    /// A wrong signature is a `BadRequestException` with the canonical string in its message (aws-amplify/amplify-js
    /// issue 14001).
    fn from(rejected: SignatureError) -> Self {
        match rejected.error_type {
            "MissingAuthenticationTokenException" => Self::UNAUTHORIZED,
            "UnrecognizedClientException" => Self { refused: Refused::UnrecognizedClient, message: rejected.message },
            _ => Self { refused: Refused::BadRequest, message: rejected.message },
        }
    }
}
