//! Listings of connections, written page by page as the directory yields them, so that a million ids are never in memory
//! at once.

use super::super::answer::Content;
use super::super::json;
use super::{CONCURRENT, reply};
use crate::cluster::Pages;
use crate::model::{Audience, ConnectionId, Name, Result};
use crate::service::Service;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use std::io::Write;
use std::sync::Arc;

/// Bytes from which on what has been written is sent; an answer that is shorter goes out whole, with its length.
const PIECE: usize = 64 << 10;

/// Depth of `connections` or `channels` in the reply.
const DEPTH: usize = 2;

/// A listing that has not been written yet.
pub(super) enum Listing {
    /// `response.connections`: a list of ids.
    Connections(Pages),
    /// `response.channels`: a list of ids for each channel; a list without channels where there are none.
    Channels(BoxStream<'static, Result<(Name, Pages)>>),
}

impl Listing {
    /// The members of these channels, each channel shown even if it has none.
    pub(super) fn of_channels(service: Arc<Service>, channels: Vec<Audience>) -> Self {
        Self::Channels(lists(service, channels, true))
    }

    /// The members of every channel of `names`; one that has lost its last member since is left out.
    pub(super) fn of_all_channels(service: Arc<Service>, names: Vec<Name>) -> Self {
        let channels = names.into_iter().map(Audience::channel).collect();
        Self::Channels(lists(service, channels, false))
    }

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

fn lists(
    service: Arc<Service>,
    channels: Vec<Audience>,
    with_empty: bool,
) -> BoxStream<'static, Result<(Name, Pages)>> {
    stream::iter(channels)
        .map(move |channel| open(service.clone(), channel, with_empty))
        .buffered(CONCURRENT)
        .try_filter_map(|list| async { Ok(list) })
        .boxed()
}

/// Opens one channel's list and reads it to its first id; `None` where it has none and is to be left out.
async fn open(service: Arc<Service>, channel: Audience, with_empty: bool) -> Result<Option<(Name, Pages)>> {
    let mut pages = service.members(&channel).await?;
    while let Some(page) = pages.try_next().await? {
        if !page.is_empty() {
            return Ok(Some((channel.name, stream::once(async { Ok(page) }).chain(pages).boxed())));
        }
    }
    Ok(with_empty.then(|| (channel.name, stream::empty().boxed())))
}

/// Writes a listing's reply.
struct Writer {
    out: Vec<u8>,
    /// Lists that are still to come, none where the reply is one list.
    lists: BoxStream<'static, Result<(Name, Pages)>>,
    /// The list being written.
    list: Option<Pages>,
    /// Whether a list is one of several, under its name.
    named: bool,
    /// Whether the innermost list has an id, and the outer one a list.
    has_ids: bool,
    has_lists: bool,
    request: Vec<u8>,
    /// Whether the reply is complete.
    written: bool,
}

impl Writer {
    fn new(listing: Listing, request: &[u8]) -> Self {
        let (key, lists, list, named) = match listing {
            Listing::Connections(pages) => ("connections", stream::empty().boxed(), Some(pages), false),
            Listing::Channels(lists) => ("channels", lists, None, true),
        };
        let mut out = reply::head(true, Some("response"));
        out.push(b'{');
        json::append_line(&mut out, DEPTH);
        out.extend_from_slice(format!("\"{key}\": ").as_bytes());
        if list.is_some() {
            out.push(b'[');
        }
        let request = request.to_vec();
        Self { out, lists, list, named, has_ids: false, has_lists: false, request, written: false }
    }

    /// Writes until there is a piece to send, or to the end.
    async fn piece(&mut self) -> Result<Bytes> {
        while self.out.len() < PIECE && !self.written {
            match &mut self.list {
                Some(pages) => match pages.try_next().await? {
                    Some(page) => self.ids(&page),
                    None => self.end_list(),
                },
                None => match self.lists.try_next().await? {
                    Some((name, pages)) => self.begin_list(&name, pages),
                    None => self.end(),
                },
            }
        }
        Ok(std::mem::take(&mut self.out).into())
    }

    fn begin_list(&mut self, name: &Name, pages: Pages) {
        self.out.push(if self.has_lists { b',' } else { b'{' });
        json::append_line(&mut self.out, DEPTH + 1);
        json::append(&mut self.out, DEPTH + 1, &name.as_str());
        self.out.extend_from_slice(b": [");
        self.has_lists = true;
        self.has_ids = false;
        self.list = Some(pages);
    }

    fn ids(&mut self, ids: &[ConnectionId]) {
        let depth = DEPTH + 1 + usize::from(self.named);
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

    fn end_list(&mut self) {
        if self.has_ids {
            json::append_line(&mut self.out, DEPTH + usize::from(self.named));
        }
        self.out.push(b']');
        self.list = None;
    }

    fn end(&mut self) {
        if self.named {
            if self.has_lists {
                json::append_line(&mut self.out, DEPTH);
                self.out.push(b'}');
            } else {
                self.out.extend_from_slice(b"[]");
            }
        }
        json::append_line(&mut self.out, DEPTH - 1);
        self.out.push(b'}');
        self.out.append(&mut self.request);
        self.written = true;
    }
}
