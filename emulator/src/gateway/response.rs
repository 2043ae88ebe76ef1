//! What an integration answered, and how it ended without an answer.

/// What a server answered.
#[derive(Clone, Debug)]
pub(super) struct BackendResponse {
    pub(super) status: u16,
    /// Headers with names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// How an integration ended that gave no answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntegrationError {
    /// The function failed, or answered with something that is no response.
    Internal,
    /// The function did not answer in time.
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
