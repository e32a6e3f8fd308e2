//! The least that a push server can do: for each message a bare loop that writes the frame to each socket with one
//! `send(2)`. It parses nothing it can avoid parsing, checks nothing, and a slow reader holds up everybody. What a real
//! server costs is judged against it, in the same run on the same machine.
//!
//! It listens on two ports of its own choice and prints them, WebSocket first. Any request on the first is answered as a
//! handshake; a request on the second whose target contains `message=` is a push to all.

use anyhow::{Context, Result, bail};
use mio::net::TcpListener as PollListener;
use mio::net::TcpStream as PollStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

const SUBSCRIBERS: Token = Token(0);
const PUSHERS: Token = Token(1);
const FIRST_PUSHER: usize = 2;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const HANDSHAKE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Pusher {
    stream: PollStream,
    request: Vec<u8>,
}

fn main() -> Result<()> {
    let mut poll = Poll::new()?;
    let mut subscriber_port = PollListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let mut push_port = PollListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    poll.registry().register(&mut subscriber_port, SUBSCRIBERS, Interest::READABLE)?;
    poll.registry().register(&mut push_port, PUSHERS, Interest::READABLE)?;
    println!("{} {}", subscriber_port.local_addr()?.port(), push_port.local_addr()?.port());

    let mut subscribers: Vec<TcpStream> = Vec::new();
    let mut pushers: HashMap<Token, Pusher> = HashMap::new();
    let mut next_pusher = FIRST_PUSHER;
    let mut events = Events::with_capacity(256);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                SUBSCRIBERS => {
                    while let Some(stream) = accepted(&subscriber_port)? {
                        subscribers.push(shake_hands(stream.into()).context("a subscriber's handshake")?);
                    }
                }
                PUSHERS => {
                    while let Some(mut stream) = accepted(&push_port)? {
                        let token = Token(next_pusher);
                        next_pusher += 1;
                        stream.set_nodelay(true)?;
                        poll.registry().register(&mut stream, token, Interest::READABLE)?;
                        pushers.insert(token, Pusher { stream, request: Vec::new() });
                    }
                }
                token => {
                    if let Some(pusher) = pushers.get_mut(&token)
                        && !serve(pusher, &mut subscribers)?
                    {
                        pushers.remove(&token);
                    }
                }
            }
        }
    }
}

fn accepted(listener: &PollListener) -> Result<Option<PollStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("accepting"),
    }
}

/// Reads a request and answers it with an upgrade. The socket blocks from here on.
fn shake_hands(mut stream: TcpStream) -> Result<TcpStream> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_LIMIT))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => bail!("the connection ended"),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    stream.write_all(HANDSHAKE)?;
    Ok(stream)
}

/// Carries out the pushes that a connection brings; false when it has ended.
fn serve(pusher: &mut Pusher, subscribers: &mut Vec<TcpStream>) -> Result<bool> {
    let mut buffer = [0; 4_096];
    loop {
        match pusher.stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => pusher.request.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return Ok(false),
        }
        if pusher.request.ends_with(b"\r\n\r\n") {
            let frame = frame(&pusher.request).context("a push without a short message")?;
            subscribers.retain_mut(|subscriber| subscriber.write_all(&frame).is_ok());
            pusher.request.clear();
            pusher.stream.write_all(TAKEN)?;
        }
    }
}

/// The text frame of a push of up to 125 bytes.
fn frame(request: &[u8]) -> Option<Vec<u8>> {
    const PARAMETER: &[u8] = b"message=";
    let start = request.windows(PARAMETER.len()).position(|window| window == PARAMETER)? + PARAMETER.len();
    let message = request[start..].split(|byte| *byte == b' ').next()?;
    let length = u8::try_from(message.len()).ok().filter(|length| *length <= 125)?;
    Some([&[0x81, length], message].concat())
}
