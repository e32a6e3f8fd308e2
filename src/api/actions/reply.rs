//! The form of every reply: `status`, then `message` or `response`, then `request`.

use super::super::answer::{self, Answer, Content};
use super::super::json;
use super::listing::Listing;
use crate::model::Error;
use bytes::Bytes;
use serde::Serialize;

/// What a call that was carried out answers.
pub(super) enum Reply {
    /// `status` alone.
    Done,
    /// A `response`, written one level down.
    Response(Vec<u8>),
    /// A `response` that is read from the directory while it is sent.
    Listing(Listing),
}

impl Reply {
    pub(super) fn response(value: &impl Serialize) -> Self {
        let mut written = Vec::new();
        json::append(&mut written, 1, value);
        Self::Response(written)
    }
}

/// Why a call was not carried out.
#[derive(Debug)]
pub(in crate::api) enum Refusal {
    /// There is no such connection: `status` is false, with no message.
    Bare,
    /// For this reason.
    Message(String),
}

impl Refusal {
    /// A push that was not taken.
    pub(super) fn of_push(error: &Error) -> Self {
        Self::of(error, "push not accepted")
    }

    /// Any other call that could not be answered.
    pub(super) fn of_call(error: &Error) -> Self {
        Self::of(error, "not available")
    }

    fn of(error: &Error, prefix: &str) -> Self {
        Self::Message(match error {
            Error::Unavailable(_) | Error::NoAnswer { .. } => format!("{prefix}: {error}"),
            Error::Limit(_) => error.to_string(),
        })
    }
}

/// What a reply says of its call at its end: the query without its token.
pub(super) fn request(echo: &impl Serialize) -> Vec<u8> {
    let mut out = b",\n    \"request\": ".to_vec();
    json::append(&mut out, 1, echo);
    out.extend_from_slice(b"\n}");
    out
}

/// Puts a reply together.
pub(super) async fn answer(reply: Result<Reply, Refusal>, request: Vec<u8>) -> Answer {
    let content = match reply {
        Ok(Reply::Done) => whole(true, None, &request),
        Ok(Reply::Response(response)) => whole(true, Some(("response", &response)), &request),
        Ok(Reply::Listing(listing)) => match listing.start(&request).await {
            Ok(content) => content,
            Err(error) => refusal(&Refusal::of_call(&error), &request),
        },
        Err(why) => refusal(&why, &request),
    };
    answer::json(content)
}

fn refusal(why: &Refusal, request: &[u8]) -> Content {
    match why {
        Refusal::Bare => whole(false, None, request),
        Refusal::Message(message) => {
            let mut written = Vec::with_capacity(message.len() + 2);
            json::append(&mut written, 1, message);
            whole(false, Some(("message", &written)), request)
        }
    }
}

/// The first lines of a reply, up to the value of `key`.
pub(super) fn head(status: bool, key: Option<&str>) -> Vec<u8> {
    let mut out = format!("{{\n    \"status\": {status}").into_bytes();
    if let Some(key) = key {
        out.extend_from_slice(format!(",\n    \"{key}\": ").as_bytes());
    }
    out
}

fn whole(status: bool, field: Option<(&str, &[u8])>, request: &[u8]) -> Content {
    let mut out = head(status, field.map(|(key, _)| key));
    out.extend_from_slice(field.map_or(&[], |(_, value)| value));
    out.extend_from_slice(request);
    Content::from(Bytes::from(out))
}
