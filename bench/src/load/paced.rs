//! Pushes at a constant rate, for measurements of servers that are not at their limit.

use super::request::{PushRequest, answer_len};
use crate::clock::now;
use anyhow::{Context, Result, anyhow, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How many pushes, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Pushes a second, over all clients.
    pub rate: u32,
    /// For how long.
    pub length: Duration,
    /// Keep-alive connections that take turns, so that one slow answer does not hold up the next push.
    pub clients: u32,
}

/// Pushes at a pace and returns when the last answer is there; how many pushes there were. A refused push is an error.
///
/// The stamp is the time of sending; but where an answer was so late that the next push of its client was due before it,
/// the time at which that push was due, so that waiting in front of a slow server counts.
pub fn push_at(address: SocketAddr, request: &PushRequest, pace: Pace) -> Result<u64> {
    let all = u64::from(pace.rate) * u64::try_from(pace.length.as_millis())? / 1_000;
    let start = now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..u64::from(pace.clients))
            .map(|client| {
                let mine = (client..all).step_by(pace.clients as usize);
                let due = mine.map(move |push| start + push * 1_000_000_000 / u64::from(pace.rate));
                scope.spawn(move || push_when_due(address, request.clone(), due))
            })
            .collect();
        for client in clients {
            client.join().map_err(|_| anyhow!("a pusher's thread panicked"))??;
        }
        Ok(all)
    })
}

fn push_when_due(address: SocketAddr, mut request: PushRequest, due: impl Iterator<Item = u64>) -> Result<()> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_string())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
    for due in due {
        let stamp = match due.checked_sub(now()) {
            Some(early) => {
                std::thread::sleep(Duration::from_nanos(early));
                now()
            }
            None => due,
        };
        stream.write_all(request.stamped(stamp))?;
        answer.clear();
        while answer_len(&answer)?.is_none_or(|whole| answer.len() < whole) {
            match stream.read(&mut buffer).context("reading the answer to a push")? {
                0 => bail!("the server closed a connection before it had answered a push"),
                read => answer.extend_from_slice(&buffer[..read]),
            }
        }
        if !request.is_accepted(&answer) {
            bail!("a push was answered with {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(())
}
