//! What an operation answers, before it has the form of a protocol.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::sessions::Session;

/// What was decided.
pub(super) enum Answer {
    Ready(Content),
    /// Credentials, which may have to be fetched from elsewhere.
    Credentials(Box<Session>),
}

/// What is answered, before it has the form of a protocol.
pub(super) enum Content {
    Json(Value),
    Xml(String),
    Plain(Response<Bytes>),
}

impl Answer {
    pub(super) fn json(value: Value) -> Self {
        Self::Ready(Content::Json(value))
    }

    pub(super) fn xml(result: String) -> Self {
        Self::Ready(Content::Xml(result))
    }

    pub(super) fn plain(response: Response<Bytes>) -> Self {
        Self::Ready(Content::Plain(response))
    }
}
