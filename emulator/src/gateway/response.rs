//! The response of an integration, or why it has none.

/// The response of a backend: a server, a function or MOCK.
#[derive(Clone, Debug)]
pub(super) struct BackendResponse {
    pub(super) status: u16,
    /// Headers with names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// Why an integration has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntegrationError {
    /// The function failed, or its response is invalid.
    Internal,
    /// The function did not respond in time.
    TimedOut,
}

impl IntegrationError {
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Internal => "Internal server error",
            Self::TimedOut => "Endpoint request timed out",
        }
    }
}
