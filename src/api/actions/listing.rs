//! Listings of connections, written page by page as the directory yields them, so that a million ids are never in memory
//! at once.

use super::super::answer::Content;
use super::super::json;
use super::reply;
use crate::cluster::{NamedPages, Pages};
use crate::model::{ConnectionId, Name, Result};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::VecDeque;
use std::io::Write;

/// Bytes from which on what has been written is sent; an answer that is shorter goes out whole, with its length.
const PIECE: usize = 64 << 10;

/// Depth of `connections` or `channels` in the reply.
const DEPTH: usize = 2;

/// A listing that has not been written yet.
pub(super) enum Listing {
    /// `response.connections`: a list of ids.
    Connections(Pages),
    /// `response.channels`: a list of ids for each channel; a list without channels where there are none.
    Channels {
        /// The channels that have members.
        pages: NamedPages,
        /// Channels that are shown even if they have none, in the order of the pages.
        shown: VecDeque<Name>,
    },
}

impl Listing {
    /// Writes as far as one piece reaches. An error means that nothing was sent and another answer can be given.
    pub(super) async fn start(self, request: &[u8]) -> Result<Content> {
        let mut writer = Writer::new(self, request);
        let first = writer.piece().await?;
        if writer.written {
            return Ok(Content::from(first));
        }
        let rest = stream::try_unfold(writer, |mut writer| async {
            if writer.written {
                return Ok(None);
            }
            match writer.piece().await {
                Ok(piece) => Ok(Some((piece, writer))),
                Err(error) => {
                    tracing::warn!(%error, "a listing was broken off half way");
                    Err(error)
                }
            }
        });
        Ok(Content::Pieces(stream::once(async { Ok(first) }).chain(rest).boxed()))
    }
}

/// Where the ids come from.
enum Source {
    /// One list.
    List(Pages),
    /// Several, each under its name.
    Named(NamedPages),
}

/// Writes a listing's reply.
struct Writer {
    out: Vec<u8>,
    source: Source,
    /// The named list being written.
    name: Option<Name>,
    /// Names that are shown even if nothing comes for them.
    shown: VecDeque<Name>,
    /// Whether the innermost list has an id, and the outer one a list.
    has_ids: bool,
    has_lists: bool,
    request: Vec<u8>,
    /// Whether the reply is complete.
    written: bool,
}

impl Writer {
    fn new(listing: Listing, request: &[u8]) -> Self {
        let (key, source, shown) = match listing {
            Listing::Connections(pages) => ("connections", Source::List(pages), VecDeque::new()),
            Listing::Channels { pages, shown } => ("channels", Source::Named(pages), shown),
        };
        let mut out = reply::head(true, Some("response"));
        out.push(b'{');
        json::append_line(&mut out, DEPTH);
        out.extend_from_slice(format!("\"{key}\": ").as_bytes());
        if matches!(source, Source::List(_)) {
            out.push(b'[');
        }
        let request = request.to_vec();
        Self { out, source, name: None, shown, has_ids: false, has_lists: false, request, written: false }
    }

    /// Writes until there is a piece to send, or to the end.
    async fn piece(&mut self) -> Result<Bytes> {
        while self.out.len() < PIECE && !self.written {
            match &mut self.source {
                Source::List(pages) => match pages.try_next().await? {
                    Some(ids) => self.ids(&ids, DEPTH + 1),
                    None => {
                        self.end_list(DEPTH);
                        self.end();
                    }
                },
                Source::Named(pages) => match pages.try_next().await? {
                    Some((name, ids)) => self.named_ids(name, &ids),
                    None => self.end_named(),
                },
            }
        }
        Ok(std::mem::take(&mut self.out).into())
    }

    /// A page of a named list, which begins here or goes on.
    fn named_ids(&mut self, name: Name, ids: &[ConnectionId]) {
        if self.name.as_ref() != Some(&name) {
            self.show_up_to(Some(&name));
            self.begin_named(name);
        }
        self.ids(ids, DEPTH + 2);
    }

    /// Shows the channels for which nothing came, up to the one for which something did.
    fn show_up_to(&mut self, end: Option<&Name>) {
        while let Some(name) = self.shown.pop_front() {
            if Some(&name) == end {
                return;
            }
            self.begin_named(name);
        }
    }

    fn begin_named(&mut self, name: Name) {
        if self.name.is_some() {
            self.end_list(DEPTH + 1);
        }
        self.out.push(if self.has_lists { b',' } else { b'{' });
        json::append_line(&mut self.out, DEPTH + 1);
        json::append(&mut self.out, DEPTH + 1, &name.as_str());
        self.out.extend_from_slice(b": [");
        self.has_lists = true;
        self.has_ids = false;
        self.name = Some(name);
    }

    fn ids(&mut self, ids: &[ConnectionId], depth: usize) {
        for id in ids {
            if self.has_ids {
                self.out.push(b',');
            }
            json::append_line(&mut self.out, depth);
            // Writing to a vector can't fail.
            let _ = write!(self.out, "{id}");
            self.has_ids = true;
        }
    }

    fn end_list(&mut self, depth: usize) {
        if self.has_ids {
            json::append_line(&mut self.out, depth);
        }
        self.out.push(b']');
    }

    fn end_named(&mut self) {
        self.show_up_to(None);
        if self.name.take().is_some() {
            self.end_list(DEPTH + 1);
            json::append_line(&mut self.out, DEPTH);
            self.out.push(b'}');
        } else {
            self.out.extend_from_slice(b"[]");
        }
        self.end();
    }

    fn end(&mut self) {
        json::append_line(&mut self.out, DEPTH - 1);
        self.out.push(b'}');
        self.out.append(&mut self.request);
        self.written = true;
    }
}
