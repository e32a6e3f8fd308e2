//! What an event comes to on a node.

use super::super::json;
use super::php::integer_key;
use crate::cluster::{Answer, Life};
use crate::model::{ConnectionId, HexId, Name};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

/// A node's value of an event.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A number.
    Number(u64),
    /// True or false.
    Flag(bool),
    /// A text.
    Text(String),
    /// Any JSON.
    Json(serde_json::Value),
    /// So many times true.
    Trues(u64),
    /// The ids or names of an answer, one after the other.
    List(Arc<Answer>),
    /// The ids or names of an answer, each under itself.
    Map(Arc<Answer>),
    /// Names, each under itself.
    NameMap(Vec<String>),
    /// It could not be had, for this reason; one text for all nodes of which that is true, as it may hold a long name.
    Fault(Arc<str>),
}

impl Value {
    /// Writes it as it stands `depth` levels down: all of it, or of its entries so many from `from` on. Where it is not
    /// finished it says where to go on.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        depth: usize,
        life: &Life,
        from: usize,
        most: usize,
    ) -> Option<usize> {
        let entries = Entries { depth, is_map: matches!(self, Self::Map(_) | Self::NameMap(_)), from, most };
        match self {
            Self::Number(number) => json::append(out, depth, number),
            Self::Flag(flag) => json::append(out, depth, flag),
            Self::Text(text) => json::append(out, depth, text),
            Self::Json(value) => json::append(out, depth, value),
            Self::Fault(why) => json::append(out, depth, &json!({ "code": 1, "msg": **why, "data": [] })),
            Self::Trues(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                return entries.write(out, count, |out, _| out.extend_from_slice(b"true"));
            }
            Self::NameMap(names) => {
                return entries.write(out, names.len(), |out, at| json::append(out, depth, &names[at]));
            }
            Self::List(answer) | Self::Map(answer) => match &**answer {
                Answer::Ids(counters) => {
                    return entries.write(out, counters.len(), |out, at| {
                        let id = HexId::new(life.id.tag(), ConnectionId::new(life.seq, counters[at]));
                        // Writing to a vector can't fail.
                        let _ = write!(out, "\"{id}\"");
                    });
                }
                Answer::Names(names) => {
                    let is_map = entries.is_map;
                    return entries.write(out, names.len(), |out, at| write_name(out, &names[at].0, is_map));
                }
                // Neither is ever asked for as a list.
                Answer::Count(_) | Answer::Details(_) => out.extend_from_slice(b"[]"),
            },
        }
        None
    }
}

/// A name in a list is an integer where PHP's array keys would be; under itself it stays a text.
fn write_name(out: &mut Vec<u8>, name: &Name, is_map: bool) {
    match integer_key(name.as_str()) {
        Some(integer) if !is_map => json::append(out, 0, &integer),
        _ => json::append(out, 0, &name.as_str()),
    }
}

/// How entries are written, and which.
struct Entries {
    depth: usize,
    is_map: bool,
    from: usize,
    most: usize,
}

impl Entries {
    /// Writes those of `count` entries whose turn it is.
    fn write(&self, out: &mut Vec<u8>, count: usize, entry: impl Fn(&mut Vec<u8>, usize)) -> Option<usize> {
        if count == 0 {
            // What is empty is a list in PHP, whatever it holds.
            out.extend_from_slice(b"[]");
            return None;
        }
        let end = self.from.saturating_add(self.most).min(count);
        for at in self.from..end {
            out.push(match (at, self.is_map) {
                (0, true) => b'{',
                (0, false) => b'[',
                _ => b',',
            });
            json::append_line(out, self.depth + 1);
            entry(out, at);
            if self.is_map {
                out.extend_from_slice(b": ");
                entry(out, at);
            }
        }
        if end < count {
            return Some(end);
        }
        json::append_line(out, self.depth);
        out.push(if self.is_map { b'}' } else { b']' });
        None
    }
}
