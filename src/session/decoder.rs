//! A client's byte stream as events: bytes first, frames after.
//!
//! The decoder is handed bytes in whatever pieces they were read, and never waits. What is whole is passed on straight
//! from the caller's buffer; only what is incomplete is copied, and an idle decoder is one empty pointer.

use super::close::Violation;
use super::frame::{Header, MAX_HEADER, is_control};
use super::message::{Assembly, Message};
use crate::model::Opcode;
use fastwebsockets::{CloseCode, OpCode};
use std::ops::ControlFlow;

/// What a client did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event<'a> {
    /// It sent a message, fragments together.
    Message(Message<'a>),
    /// A part of a message came, and not yet its end.
    Part,
    /// It wants a pong with this payload.
    Ping(&'a [u8]),
    /// It answered a ping, or sent a pong nobody had asked for, with this payload.
    Pong(&'a [u8]),
    /// It closes; with its code and reason where it gave a code. Nothing that follows counts.
    Close(Option<(u16, &'a str)>),
}

/// A part of a frame's payload, unmasked.
struct Piece<'a> {
    header: Header,
    payload: &'a [u8],
    /// Whether the frame ends with it.
    complete: bool,
    /// Whether it is all of the frame.
    whole: bool,
}

/// One client's stream, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pending: Option<Box<Pending>>,
}

/// What is incomplete.
#[derive(Debug, Default)]
struct Pending {
    /// The start of a header.
    head: [u8; MAX_HEADER],
    head_length: usize,
    /// The frame whose payload is arriving, and how many bytes of it came.
    frame: Option<(Header, u64)>,
    /// Payload of that frame where it is a control frame; at most 125 bytes.
    control: Vec<u8>,
    /// The message to which that frame, or the next data frame, belongs.
    message: Option<Assembly>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.head_length == 0 && self.frame.is_none() && self.message.is_none()
    }
}

impl Decoder {
    /// Takes the next bytes of the stream and hands each event to `on_event`, in order, until that breaks: how many bytes are
    /// left then, at the end of the input, which are the next ones to be taken. The bytes are unmasked where they stand. After a
    /// violation the decoder must not be used any more.
    pub(super) fn decode(
        &mut self,
        mut input: &mut [u8],
        max_message: usize,
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Violation> {
        while !input.is_empty() {
            let (header, received) = match self.pending.as_mut().and_then(|pending| pending.frame.take()) {
                Some(arriving) => arriving,
                None => {
                    let (header, rest) = self.take_header(input)?;
                    input = rest;
                    let Some(header) = header else { break };
                    self.admit(&header, max_message)?;
                    (header, 0)
                }
            };

            let missing = header.length - received;
            let taken = usize::try_from(missing).map_or(input.len(), |missing| missing.min(input.len()));
            let (payload, rest) = input.split_at_mut(taken);
            input = rest;
            header.unmask(payload, received);
            let complete = taken as u64 == missing;
            if !complete {
                self.pending().frame = Some((header, received + taken as u64));
                if payload.is_empty() {
                    break;
                }
            }

            let piece = Piece { header, payload, complete, whole: complete && received == 0 };
            let flow = if is_control(header.opcode) {
                self.control(piece, &mut on_event)?
            } else {
                self.data(piece, &mut on_event)?
            };
            if flow.is_break() {
                break;
            }
        }
        if self.pending.as_ref().is_some_and(|pending| pending.is_empty()) {
            self.pending = None;
        }
        Ok(input.len())
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Takes a header off the front of `input`; where it is incomplete, its start is kept.
    fn take_header<'i>(&mut self, input: &'i mut [u8]) -> Result<(Option<Header>, &'i mut [u8]), Violation> {
        let kept = self.pending.as_ref().map_or(0, |pending| pending.head_length);
        if kept == 0
            && let Some((header, length)) = Header::parse(input)?
        {
            return Ok((Some(header), &mut input[length..]));
        }
        let pending = self.pending();
        let added = input.len().min(MAX_HEADER - kept);
        pending.head[kept..kept + added].copy_from_slice(&input[..added]);
        match Header::parse(&pending.head[..kept + added])? {
            Some((header, length)) => {
                pending.head_length = 0;
                Ok((Some(header), &mut input[length - kept..]))
            }
            None => {
                pending.head_length = kept + added;
                Ok((None, &mut input[added..]))
            }
        }
    }

    /// Whether a frame may come now, and whether its message stays within the limit.
    fn admit(&self, header: &Header, max_message: usize) -> Result<(), Violation> {
        let message = self.pending.as_ref().and_then(|pending| pending.message.as_ref());
        match (header.opcode, message) {
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) => return Ok(()),
            (OpCode::Continuation, None) => return Err(Violation::Protocol("continuation without a message")),
            (OpCode::Text | OpCode::Binary, Some(_)) => {
                return Err(Violation::Protocol("message begins within another"));
            }
            (OpCode::Continuation, Some(_)) | (OpCode::Text | OpCode::Binary, None) => {}
        }
        let room = max_message.saturating_sub(message.map_or(0, Assembly::len));
        if header.length > room as u64 { Err(Violation::TooBig { limit: max_message }) } else { Ok(()) }
    }

    fn data(
        &mut self,
        Piece { header, payload, complete, whole }: Piece<'_>,
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let opcode = if header.opcode == OpCode::Text { Opcode::Text } else { Opcode::Binary };
        if whole && header.fin && header.opcode != OpCode::Continuation {
            return Ok(on_event(Event::Message(Message::whole(opcode, payload)?)));
        }
        let message = &mut self.pending().message;
        message.get_or_insert_with(|| Assembly::new(opcode)).extend(payload)?;
        if !(complete && header.fin) {
            return Ok(on_event(Event::Part));
        }
        match message.take() {
            Some(message) => Ok(on_event(Event::Message(message.finish()?))),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn control(
        &mut self,
        Piece { header, payload, complete, whole }: Piece<'_>,
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        if whole {
            return Ok(on_event(control_event(header.opcode, payload)?));
        }
        let kept = &mut self.pending().control;
        kept.extend_from_slice(payload);
        if !complete {
            return Ok(ControlFlow::Continue(()));
        }
        let payload = std::mem::take(kept);
        Ok(on_event(control_event(header.opcode, &payload)?))
    }
}

fn control_event(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match opcode {
        OpCode::Ping => Ok(Event::Ping(payload)),
        OpCode::Close => close_code(payload).map(Event::Close),
        OpCode::Pong | OpCode::Continuation | OpCode::Text | OpCode::Binary => Ok(Event::Pong(payload)),
    }
}

/// Code and reason in a close frame's payload (RFC 6455, sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol("close frame has half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !CloseCode::from(code).is_allowed() {
                return Err(Violation::Protocol("close code is not allowed"));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(Some((code, reason)))
        }
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
