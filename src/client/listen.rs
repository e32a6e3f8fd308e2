//! `carillon listen`: one connection after the other, and when to stop.

use super::failure::Failure;
use super::http::shown;
use super::output::{Output, note};
use super::socket::{Event, Opened, Reader, Writer, open};
use crate::cli::{Format, Listen};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fastwebsockets::WebSocketError;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use url::Url;

/// After this silence the server is pinged, after twice as much it counts as gone. Nodes ping every 25 s by default.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a frame of ours may take to be written, and a server to answer a close frame.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first delay before connecting again.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest one, also when a server asks for more.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A connection that held this long starts the delays anew.
const STABLE: Duration = Duration::from_secs(10);

/// How one connection, or the attempt at one, ended.
enum End {
    /// By this program: interrupted, or all messages that were asked for are there.
    Done,
    /// By the server's close frame.
    Closed { code: u16, reason: String },
    /// By the server's answer to the handshake.
    Refused { message: String, for_good: bool, retry_after: Option<Duration> },
    /// Without a word, or it could not be made.
    Lost(Failure),
}

/// Prints what arrives until the server closes, enough has arrived, or SIGINT or SIGTERM comes.
pub(super) async fn listen(listen: &Listen, output: &mut Output) -> Result<(), Failure> {
    let url = subscribed(listen);
    let mut listener = Listener { output, left: listen.count.map(u64::from) };
    let mut interrupt = Interrupt::new().map_err(|error| Failure::Usage(format!("can't take signals: {error}")))?;
    let mut delay = FIRST_DELAY;
    loop {
        let begun = Instant::now();
        let end = listener.connection(&url, listen.options.timeout, &mut interrupt).await?;
        if matches!(end, End::Done) {
            return Ok(());
        }
        if begun.elapsed() >= STABLE {
            delay = FIRST_DELAY;
        }
        if !(listen.reconnect && end.may_come_back()) {
            return end.result(listener.left.is_none());
        }
        let pause = jittered(delay).max(end.retry_after()).min(LONGEST_DELAY);
        delay = (delay * 2).min(LONGEST_DELAY);
        note(&format!("{}; trying again in {:.1} s", end.told(), pause.as_secs_f64()));
        tokio::select! {
            () = sleep(pause) => {}
            () = interrupt.wait() => return Ok(()),
        }
    }
}

/// The URL with the channels that are asked for, as the contract's browsers write them.
fn subscribed(listen: &Listen) -> Url {
    let mut url = listen.url.clone();
    url.set_fragment(None);
    if !listen.channels.is_empty() {
        let channels = listen.channels.iter().map(|channel| ("channel[]", channel.as_str()));
        url.query_pairs_mut().extend_pairs(channels);
    }
    url
}

/// Between half of `delay` and all of it, so that many clients of a node that died don't come back at once.
fn jittered(delay: Duration) -> Duration {
    let random = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    delay.mul_f64(0.5 + random / 2.0)
}

impl End {
    /// Whether connecting again is right: not where the server ended it on purpose or will say no again.
    fn may_come_back(&self) -> bool {
        match self {
            Self::Done => false,
            Self::Closed { code, .. } => !matches!(code, 1000 | 1008),
            Self::Refused { for_good, .. } => !for_good,
            Self::Lost(failure) => matches!(failure, Failure::Unreachable { .. }),
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            Self::Done | Self::Closed { .. } | Self::Lost(_) => Duration::ZERO,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Done => "done".into(),
            Self::Closed { code, reason } if reason.is_empty() => format!("closed by the server: {code}"),
            Self::Closed { code, reason } => format!("closed by the server: {code} {reason}"),
            Self::Refused { message, .. } => message.clone(),
            Self::Lost(failure) => failure.to_string(),
        }
    }

    /// What it means for the exit code; a close with 1000 is no failure where `nothing_expected` was to come.
    fn result(self, nothing_expected: bool) -> Result<(), Failure> {
        match self {
            Self::Done => Ok(()),
            Self::Closed { code: 1000, .. } if nothing_expected => {
                note(&self.told());
                Ok(())
            }
            Self::Closed { .. } | Self::Refused { .. } => Err(Failure::refused(self.told())),
            Self::Lost(failure) => Err(failure),
        }
    }
}

/// SIGINT and SIGTERM, either of which ends a listener in order.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What goes on from one connection to the next.
struct Listener<'a> {
    output: &'a mut Output,
    /// Messages still to come before it ends by itself.
    left: Option<u64>,
}

impl Listener<'_> {
    /// One connection from the handshake to its end. An error is one of output.
    async fn connection(&mut self, url: &Url, limit: Duration, interrupt: &mut Interrupt) -> Result<End, Failure> {
        let opened = tokio::select! {
            opened = open(url, limit) => opened,
            () = interrupt.wait() => return Ok(End::Done),
        };
        let (reader, mut writer) = match opened {
            Ok(Opened::Socket(reader, writer)) => (reader, writer),
            Ok(Opened::Refused { for_good, retry_after, message }) => {
                return Ok(End::Refused { message, for_good, retry_after });
            }
            Err(failure) => return Ok(End::Lost(failure)),
        };
        note(&format!("listening on {}", shown(url)));
        // The stream owns the read that is under way: a select that takes another branch doesn't cut a frame in two.
        let mut events = pin!(stream::unfold(reader, |mut reader: Reader| async {
            let event = reader.next().await;
            Some((event, reader))
        }));
        let mut heard = Instant::now();
        let mut pinged = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = interrupt.wait() => return Ok(leave(&mut writer, events).await),
                () = sleep_until(heard + if pinged { SILENCE * 2 } else { SILENCE }) => {
                    if pinged || written(writer.ping()).await.is_err() {
                        return Ok(End::Lost(lost(url, "nothing was heard of the server for too long")));
                    }
                    pinged = true;
                    continue;
                }
            };
            (heard, pinged) = (Instant::now(), false);
            let message = match event {
                Some(Event::Text(text)) => Message::new("text", text.into_bytes()),
                Some(Event::Binary(data)) => Message::new("binary", data),
                Some(Event::Ping(payload)) => {
                    // A failed write shows in the next read.
                    let _ = written(writer.pong(payload)).await;
                    continue;
                }
                Some(Event::Pong) => continue,
                Some(Event::Close { code, reason }) => {
                    let _ = written(writer.close(if code == 1005 { 1000 } else { code })).await;
                    return Ok(End::Closed { code, reason });
                }
                Some(Event::Lost { why, code }) => {
                    if let Some(code) = code {
                        let _ = written(writer.close(code)).await;
                    }
                    return Ok(End::Lost(lost(url, &why)));
                }
                None => return Ok(End::Lost(lost(url, "the server hung up"))),
            };
            message.print(self.output)?;
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return Ok(leave(&mut writer, events).await);
                }
            }
        }
    }
}

/// Closes with 1000 and gives the server a moment to answer.
async fn leave(writer: &mut Writer, mut events: impl stream::Stream<Item = Event> + Unpin) -> End {
    if written(writer.close(1000)).await.is_ok() {
        let answered = async {
            while let Some(event) = events.next().await {
                if matches!(event, Event::Close { .. } | Event::Lost { .. }) {
                    break;
                }
            }
        };
        // Whether the server was polite changes nothing any more.
        let _ = timeout(PATIENCE, answered).await;
    }
    End::Done
}

/// A write that a server which reads nothing can't hold up for ever.
async fn written(write: impl Future<Output = Result<(), WebSocketError>>) -> io::Result<()> {
    match timeout(PATIENCE, write).await {
        Ok(result) => result.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn lost(url: &Url, why: &str) -> Failure {
    Failure::unreachable(format!("the connection to {} was lost: {why}", shown(url)))
}

/// A message as it arrived.
struct Message {
    time: f64,
    kind: &'static str,
    data: Vec<u8>,
}

/// A message as JSON.
#[derive(Serialize)]
struct JsonMessage<'a> {
    time: f64,
    r#type: &'static str,
    data: &'a str,
}

impl Message {
    fn new(kind: &'static str, data: Vec<u8>) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        Self { time, kind, data }
    }

    fn print(&self, output: &mut Output) -> Result<(), Failure> {
        match (output.format, std::str::from_utf8(&self.data)) {
            (Format::Lines, _) => output.line(&self.data)?,
            (Format::Json, Ok(text)) if self.kind == "text" => {
                output.json(&JsonMessage { time: self.time, r#type: self.kind, data: text })?;
            }
            (Format::Json, _) => {
                let data = BASE64.encode(&self.data);
                output.json(&JsonMessage { time: self.time, r#type: self.kind, data: &data })?;
            }
        }
        Ok(output.flush()?)
    }
}
