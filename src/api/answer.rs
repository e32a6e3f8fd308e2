//! What the server answers with.

use crate::model::{Error, Result};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use std::pin::Pin;
use std::task::{Context, Poll};

/// An answer's body.
pub enum Content {
    /// All of it at once; `None` once it is sent. Goes out with a `Content-Length`.
    Whole(Option<Bytes>),
    /// Piece by piece, chunked; an error breaks the answer off, so that the client sees a body without an end.
    Pieces(BoxStream<'static, Result<Bytes>>),
}

/// An answer.
pub type Answer = Response<Content>;

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl From<Full<Bytes>> for Content {
    fn from(mut full: Full<Bytes>) -> Self {
        // A `Full` has all it has at once, in one frame.
        let frame = full.frame().now_or_never().flatten();
        Self::Whole(frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces.poll_next_unpin(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A JSON answer; the dialects tell success from failure in the body, its status is always 200.
pub(super) fn json(content: Content) -> Answer {
    typed("application/json", content)
}

/// A text for people and probes.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = typed("text/plain; charset=utf-8", Content::from(text.into()));
    *answer.status_mut() = status;
    answer
}

/// A body of a media type.
pub(super) fn typed(media_type: &'static str, content: Content) -> Answer {
    let mut answer = Response::new(content);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// A status with nothing else.
pub(super) fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(Content::Whole(None));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_made_of_a_full_body_is_the_same_with_its_length() {
        for bytes in ["", "bytes"] {
            let content = Content::from(Full::new(Bytes::from(bytes)));
            assert_eq!(content.size_hint().exact(), Some(bytes.len() as u64));
            assert_eq!(content.collect().await.unwrap().to_bytes(), bytes);
        }
    }
}
