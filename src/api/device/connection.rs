//! One backend at the unix socket: what it writes is carried out document by document, each with its answer.

use super::DeviceSocket;
use super::documents::{Documents, MAX_DOCUMENT};
use super::listener::Shared;
use super::metrics::Source;
use super::refusal::Refusal;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{SemaphorePermit, watch};
use tokio::time::{Instant, timeout};

/// Bytes that one read takes at most.
const CHUNK: usize = 16 << 10;

/// How long a document may be silent before it is taken for one that does not go on.
const SILENCE: Duration = Duration::from_secs(1);

/// How long nothing may follow something malformed for it to be all of what was written at once.
const QUIET: Duration = Duration::from_millis(10);

/// How long an answer may wait for a backend that doesn't read; nothing is read from it meanwhile.
const UNREAD: Duration = Duration::from_secs(10);

/// How long a document waits for the memory that others have.
const PATIENCE: Duration = Duration::from_secs(5);

/// Documents up to this size are not counted: the limit on connections bounds them.
const SMALL: usize = 64 << 10;

/// Why nothing more is read from a backend.
struct Over;

/// A backend.
pub(super) struct Connection<'a> {
    socket: &'a DeviceSocket,
    shared: &'a Shared,
    stream: UnixStream,
    documents: Documents,
    /// Room for a long document.
    room: Option<SemaphorePermit<'a>>,
    /// The backend has left without its answers; what it wrote before counts all the same.
    unheard: bool,
    shutdown: watch::Receiver<bool>,
}

/// Waits until the node stops serving backends.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error: whoever could have said it is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        socket: &'a DeviceSocket,
        shared: &'a Shared,
        stream: UnixStream,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self { socket, shared, stream, documents: Documents::default(), room: None, unheard: false, shutdown }
    }

    /// Serves the backend until it has ended the stream, or has to be given up, or is told to stop.
    pub(super) async fn serve(mut self) {
        let mut chunk = vec![0; CHUNK].into_boxed_slice();
        loop {
            let begun = self.documents.is_owed_an_answer();
            let read = async {
                let read = self.stream.read(&mut chunk);
                // An idle connection has no timer.
                if begun { timeout(SILENCE, read).await } else { Ok(read.await) }
            };
            let read = tokio::select! {
                read = read => read,
                () = stopped(&mut self.shutdown) => return,
            };
            let served = match read {
                Ok(Ok(0)) | Ok(Err(_)) => {
                    if let Some(refusal) = self.documents.end() {
                        // Whoever asks whether the socket is there writes nothing and wants nothing.
                        let _ = match refusal {
                            Refusal::Nothing => self.answer(&Err(refusal)).await,
                            refusal => self.refuse(refusal).await,
                        };
                    }
                    return;
                }
                Ok(Ok(length)) => self.take(&chunk[..length]).await,
                Err(_silent) => match self.documents.end() {
                    Some(refusal) => self.refuse(refusal).await,
                    None => Ok(()),
                },
            };
            if served.is_err() {
                return;
            }
            if self.documents.held() == 0 {
                self.room = None;
            }
        }
    }

    /// Carries out the documents that end in a chunk.
    async fn take(&mut self, mut chunk: &[u8]) -> Result<(), Over> {
        while let Some(document) = self.documents.next(&mut chunk) {
            match document {
                Ok(document) => {
                    // A backend may have anybody subscribed to anything.
                    let done = self.socket.carry_out(Source::Unix, &document, &|_| true).await;
                    self.answer(&done).await?;
                }
                Err(Refusal::TooLong) => {
                    let _ = self.refuse(Refusal::TooLong).await;
                    return Err(Over);
                }
                Err(refusal) => {
                    let forgotten = self.forget_the_rest().await;
                    self.refuse(refusal).await?;
                    forgotten?;
                }
            }
        }
        if self.documents.held() > SMALL && self.room.is_none() {
            // All that it may become at once: documents that wait for each other half read would wait for ever.
            let room = timeout(PATIENCE, self.shared.room.acquire_many(Shared::units(MAX_DOCUMENT))).await;
            self.room = room.ok().and_then(Result::ok);
            if self.room.is_none() {
                let _ = self.refuse(Refusal::Busy).await;
                return Err(Over);
            }
        }
        Ok(())
    }

    /// Drops what of the same write follows, as none of it can be told from the inside of what was malformed. Until it has been
    /// answered a backend has no reason to write anything else.
    async fn forget_the_rest(&mut self) -> Result<(), Over> {
        let (mut scratch, mut forgotten) = (vec![0; CHUNK].into_boxed_slice(), 0);
        let began = Instant::now();
        while forgotten <= MAX_DOCUMENT && began.elapsed() < SILENCE {
            match timeout(QUIET, self.stream.read(&mut scratch)).await {
                Ok(Ok(length)) if length > 0 => forgotten += length,
                // The end of the stream is found by the next read.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
        Err(Over)
    }

    async fn refuse(&mut self, refusal: Refusal) -> Result<(), Over> {
        let refused = self.socket.refuse(Source::Unix, refusal);
        self.answer(&refused).await
    }

    /// Answers a document: without a line break, as backends compare it as it comes.
    async fn answer(&mut self, done: &Result<(), Refusal>) -> Result<(), Over> {
        if self.unheard {
            return Ok(());
        }
        let answer = match done {
            Ok(()) => "OK".to_owned(),
            Err(refusal) if self.shared.strict => format!("ERR: {refusal}"),
            Err(refusal) if refusal.is_overlooked() => "OK".to_owned(),
            Err(_) => "ERR".to_owned(),
        };
        let written = tokio::select! {
            // First, so that what can be written at once is written though it is the last.
            biased;
            written = timeout(UNREAD, self.stream.write_all(answer.as_bytes())) => written,
            () = stopped(&mut self.shutdown) => return Err(Over),
        };
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.unheard = true;
                Ok(())
            }
            Ok(Err(_)) => Err(Over),
            Err(_late) => {
                tracing::info!(
                    seconds = UNREAD.as_secs(),
                    "a backend at the unix socket doesn't read its answers: closed"
                );
                Err(Over)
            }
        }
    }
}
