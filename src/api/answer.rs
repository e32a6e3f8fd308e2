//! What the server answers with.

use crate::model::{Error, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
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

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Whole(Some(bytes.into()))
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
    let mut answer = typed("text/plain; charset=utf-8", Content::from(text));
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
