//! TLS on a connection whose handshake is done, without a task or a buffer of its own while it is idle.
//!
//! The shard offers the same plaintext buffers that all other sockets get; what of them becomes ciphertext is bounded, and
//! counts as written only when all of it is with the kernel. So whoever writes need not know of TLS: what was not written
//! stays in the connection's backlog, with its limits.

use super::socket::MAX_SLICES;
use bytes::Bytes;
use rustls::ServerConnection;
use smallvec::SmallVec;
use std::io::{self, IoSlice, Read, Write};
use tokio::net::TcpStream;

/// Ciphertext that may wait for the kernel: four full records.
const AHEAD: usize = 64 << 10;

/// The state of a TLS connection.
pub(super) struct Tls {
    connection: ServerConnection,
    /// Bytes that were taken from what was offered, and whose ciphertext is not all with the kernel.
    begun: usize,
}

/// The TCP stream as rustls wants it.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        // Most often it is one record, and send(2) costs the kernel less than writev(2).
        if let [only] = buffers {
            return self.0.try_write(only);
        }
        self.0.try_write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    pub(super) fn new(mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(AHEAD));
        Self { connection, begun: 0 }
    }

    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// Hands all ciphertext that waits to the kernel.
    fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Wire(stream))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Plaintext that is there now; 0 is the end of the stream, said or not.
    pub(super) fn read(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if self.connection.read_tls(&mut Wire(stream))? == 0 {
                return Ok(0);
            }
            let processed = self.connection.process_new_packets();
            // An answer to the peer's TLS, or the alert that says what is wrong with it; the kernel may have no room.
            let flushed = self.flush(stream);
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match flushed {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    /// Encrypts and writes what the kernel takes now; how many of the bytes offered it has taken.
    pub(super) fn write(&mut self, stream: &TcpStream, buffers: &[Bytes]) -> io::Result<usize> {
        let total: usize = buffers.iter().map(Bytes::len).sum();
        let mut written = 0;
        loop {
            match self.flush(stream) {
                Ok(()) => written = std::mem::take(&mut self.begun).max(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && written > 0 => {
                    // What was begun is counted from here on.
                    self.begun -= written;
                    return Ok(written);
                }
                Err(error) => return Err(error),
            }
            // More than is offered now may have been begun when more was offered.
            if written >= total {
                return Ok(written);
            }
            let encrypted = self.encrypt(buffers, written)?;
            if encrypted == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.begun = written + encrypted;
        }
    }

    /// Encrypts what is offered, but for the first `skipped` bytes, up to the limit; how many bytes. Short buffers share a
    /// record.
    fn encrypt(&mut self, buffers: &[Bytes], mut skipped: usize) -> io::Result<usize> {
        let rest = buffers.iter().skip_while(|buffer| {
            let past = skipped >= buffer.len();
            skipped -= if past { buffer.len() } else { 0 };
            past
        });
        let mut slices: SmallVec<[IoSlice<'_>; 2]> = rest.take(MAX_SLICES).map(|buffer| IoSlice::new(buffer)).collect();
        if let Some(first) = slices.first_mut() {
            first.advance(skipped);
        }
        self.connection.writer().write_vectored(&slices)
    }

    /// Tells the peer that nothing follows (RFC 8446, section 6.1).
    pub(super) fn say_goodbye(&mut self, stream: &TcpStream) {
        self.connection.send_close_notify();
        // Whoever does not read it will find the end of the stream.
        let _ = self.flush(stream);
    }
}
