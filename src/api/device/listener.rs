//! The socket file: made so that only those connect who may, never taken from somebody who listens, removed at the end.

use super::DeviceSocket;
use super::connection::Connection;
use crate::accept::Failures;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

/// Connections of backends at the same time; more are answered `ERR` and closed.
const MAX_CONNECTIONS: usize = 1024;

/// Connections that may wait to be accepted; the system's own limit (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 4096;

/// What all long documents that are being read may take together.
const ALL_DOCUMENTS: usize = 64 << 20;

/// Bytes in a unit of the semaphore, which counts in 32 bits.
const UNIT: usize = 1 << 10;

/// How long a start waits for others that make a socket in the same directory, which takes them less than a millisecond.
const OTHERS: Duration = Duration::from_secs(1);

/// How the socket is offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketConfig {
    /// Its file (`UNIX_SOCKET`).
    pub path: PathBuf,
    /// Who may connect: the file's permission bits (`UNIX_SOCKET_MODE`).
    pub mode: u32,
    /// Whether every document that is not carried out is answered with `ERR` and the reason (`UNIX_SOCKET_STRICT`).
    pub strict: bool,
}

/// Why the socket can't be offered.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("somebody listens there already")]
    Live,
    /// There is something that is no socket.
    #[error("what is there is not a socket")]
    NotASocket,
    /// The system says no.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The socket, open to backends; its file is removed when this is dropped.
pub struct DeviceListener {
    listener: UnixListener,
    file: SocketFile,
    shared: Arc<Shared>,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) strict: bool,
    /// Room for long documents, in units.
    pub(super) room: Semaphore,
}

impl Shared {
    /// So many bytes in units.
    pub(super) fn units(bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
    }
}

/// The file, removed when dropped, if it is still ours.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DeviceListener {
    /// Offers the socket. For a tokio runtime.
    ///
    /// Nobody can connect before the mode is set: until `listen` the system refuses. A file that nobody listens at any more,
    /// left by a process that was killed, is replaced.
    ///
    /// # Errors
    /// Where somebody listens there, something else is there, or the system says no.
    pub async fn bind(config: &SocketConfig) -> Result<Self, BindError> {
        let path = &config.path;
        // Until it listens: what another node makes looks left by somebody before that.
        let _alone = alone(path).await;
        clear(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?).map_err(|error| match error.kind() {
            // Somebody was faster.
            ErrorKind::AddrInUse => BindError::Live,
            _ => BindError::System(error),
        })?;
        let made = fs::symlink_metadata(path)?;
        let file = SocketFile { path: path.clone(), device: made.dev(), inode: made.ino() };
        fs::set_permissions(path, Permissions::from_mode(config.mode))?;
        socket.listen(BACKLOG)?;
        let listener = UnixListener::from_std(socket.into())?;
        let room = Semaphore::new(ALL_DOCUMENTS / UNIT);
        Ok(Self { listener, file, shared: Arc::new(Shared { strict: config.strict, room }) })
    }

    /// Serves backends until `shutdown` is true (or its sender gone): documents that have begun are answered, then every
    /// connection is closed. Returns when the last one has ended, and the file is removed.
    pub async fn serve(self, socket: Arc<DeviceSocket>, mut shutdown: watch::Receiver<bool>) {
        let Self { listener, file, shared } = self;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut failures = Failures::new("connection to the unix socket");
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // An error: whoever could have said it is gone.
                _ = shutdown.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (socket, shared, shutdown) = (socket.clone(), shared.clone(), shutdown.clone());
                        tokio::spawn(async move {
                            socket.metrics.connections.inc();
                            Connection::new(&socket, &shared, stream, shutdown).serve().await;
                            socket.metrics.connections.dec();
                            drop(permit);
                        });
                    }
                    Err(_) => {
                        socket.metrics.connection_refused(MAX_CONNECTIONS);
                        refuse(&stream, shared.strict);
                    }
                },
                Err(error) => {
                    tokio::select! {
                        () = failures.wait(&error) => {}
                        _ = shutdown.wait_for(|stop| *stop) => break,
                    }
                }
            }
        }
        // First the file, so that whoever comes now finds nobody instead of somebody who doesn't answer.
        drop(file);
        drop(listener);
        // An error would mean that the semaphore is closed, which it never is.
        let _ = permits.acquire_many(MAX_CONNECTIONS as u32).await;
    }
}

fn refuse(stream: &UnixStream, strict: bool) {
    let answer: &[u8] = if strict { b"ERR: too many connections" } else { b"ERR" };
    // A fresh connection has room for it; if not, its end is answer enough.
    let _ = stream.try_write(answer);
}

/// Waits for nodes that look at the same directory at this moment, so that none of them removes what another has just made. A
/// lock that can't be had stops nobody: whoever may read the directory could hold it.
async fn alone(path: &Path) -> Option<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory).ok()?;
    let start = Instant::now();
    while start.elapsed() < OTHERS {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) => sleep(OTHERS / 100).await,
            Err(TryLockError::Error(_)) => return None,
        }
    }
    tracing::warn!(path = %path.display(), "somebody holds a lock on the unix socket's directory: going on without it");
    None
}

/// Makes room for the socket: a file of one that nobody listens at is removed.
fn clear(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return Err(BindError::NotASocket),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing the unix socket's file: nobody listens there any more");
            fs::remove_file(path)?;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A queue that is full, or a socket of another type: somebody is there.
        Ok(()) | Err(_) => Err(BindError::Live),
    }
}

impl SocketFile {
    fn is_ours(&self, there: &Metadata) -> bool {
        there.dev() == self.device && there.ino() == self.inode
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else's, made since ours was removed, stays.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| self.is_ours(&there))
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the unix socket's file can't be removed");
        }
    }
}
