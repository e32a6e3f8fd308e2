//! The form of every reply, written piece by piece: a node's connections may be a hundred thousand.

use super::super::answer::{self, Answer, Content};
use super::super::json;
use super::value::Value;
use crate::cluster::Life;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::collections::VecDeque;

/// Bytes from which on what has been written is sent; an answer that is shorter goes out whole, with its length.
const PIECE: usize = 64 << 10;

/// Entries of a list that are written at once; they are some forty bytes each.
const ENTRIES: usize = 1000;

/// Refuses a whole call.
pub(super) fn refusal(why: &str) -> Answer {
    let mut out = Vec::new();
    json::append(&mut out, 0, &json!({ "code": 1, "msg": why, "data": [] }));
    out.push(b'\n');
    answer::json(Content::from(Bytes::from(out)))
}

/// An event as the caller spelled it, with its value on each life.
pub(super) type Valued = (String, Vec<Value>);

/// The reply of all `lives`.
pub(super) fn of_lives(lives: &[Life], events: Vec<Valued>) -> Answer {
    let mut writer = Writer::new(lives, &[]);
    let ids: Vec<String> = lives.iter().map(|life| life.id.to_string()).collect();
    writer.text(b",\n    \"master_ids\": ");
    writer.json(1, &ids);
    writer.begin_data();
    for (at, (event, values)) in events.into_iter().enumerate() {
        writer.key(2, at, &event);
        if values.is_empty() {
            writer.text(b"[]");
            continue;
        }
        for (life, value) in values.into_iter().enumerate() {
            writer.key(3, life, ids.get(life).map_or("", String::as_str));
            writer.value(value, 3, life);
        }
        writer.end(2);
    }
    writer.end(1);
    writer.answer()
}

/// The reply of one node alone; `extra` are its remarks.
pub(super) fn of_node(life: Life, events: Vec<Valued>, extra: &[String]) -> Answer {
    let mut writer = Writer::new(&[life], extra);
    writer.begin_data();
    for (at, (event, mut values)) in events.into_iter().enumerate() {
        writer.key(2, at, &event);
        writer.value(values.pop().unwrap_or(Value::Number(0)), 2, 0);
    }
    writer.end(1);
    writer.answer()
}

/// A part of a reply that has not been written yet.
enum Part {
    /// Bytes as they are.
    Text(Vec<u8>),
    /// A value, how far down it is, whose it is, and how many of its entries have been written.
    Value { value: Value, depth: usize, life: usize, from: usize },
}

/// Puts a reply together and writes it.
struct Writer {
    lives: Vec<Life>,
    parts: VecDeque<Part>,
    /// The text behind them that is being put together.
    open: Vec<u8>,
}

impl Writer {
    /// The first lines.
    fn new(lives: &[Life], extra: &[String]) -> Self {
        let mut writer = Self { lives: lives.to_vec(), parts: VecDeque::new(), open: Vec::new() };
        writer.text(b"{\n    \"code\": 0,\n    \"msg\": \"ok\",\n    \"extra\": ");
        writer.json(1, extra);
        writer
    }

    fn begin_data(&mut self) {
        self.text(b",\n    \"data\": ");
    }

    fn text(&mut self, text: &[u8]) {
        self.open.extend_from_slice(text);
    }

    fn json(&mut self, depth: usize, value: &(impl serde::Serialize + ?Sized)) {
        json::append(&mut self.open, depth, &value);
    }

    /// The key of a map's entry, the first one with the map's beginning.
    fn key(&mut self, depth: usize, at: usize, key: &str) {
        let out = &mut self.open;
        out.push(if at == 0 { b'{' } else { b',' });
        json::append_line(out, depth);
        json::append(out, depth, &key);
        out.extend_from_slice(b": ");
    }

    fn value(&mut self, value: Value, depth: usize, life: usize) {
        self.close();
        self.parts.push_back(Part::Value { value, depth, life, from: 0 });
    }

    /// The text so far becomes a part.
    fn close(&mut self) {
        let text = std::mem::take(&mut self.open);
        if !text.is_empty() {
            self.parts.push_back(Part::Text(text));
        }
    }

    /// The end of a map.
    fn end(&mut self, depth: usize) {
        let out = &mut self.open;
        json::append_line(out, depth);
        out.push(b'}');
    }

    fn answer(mut self) -> Answer {
        self.text(b"\n}\n");
        self.close();
        let first = self.piece();
        if self.parts.is_empty() {
            return answer::json(Content::from(first));
        }
        let rest = stream::unfold(self, |mut writer| async {
            if writer.parts.is_empty() { None } else { Some((Ok(writer.piece()), writer)) }
        });
        answer::json(Content::Pieces(stream::once(async { Ok(first) }).chain(rest).boxed()))
    }

    /// Writes until there is a piece to send, or to the end.
    fn piece(&mut self) -> Bytes {
        let mut out = Vec::new();
        while out.len() < PIECE {
            match self.parts.pop_front() {
                None => break,
                Some(Part::Text(text)) => out.extend_from_slice(&text),
                Some(Part::Value { value, depth, life, from }) => {
                    let Some(of) = self.lives.get(life) else { continue };
                    if let Some(from) = value.write(&mut out, depth, of, from, ENTRIES) {
                        self.parts.push_front(Part::Value { value, depth, life, from });
                    }
                }
            }
        }
        out.into()
    }
}
