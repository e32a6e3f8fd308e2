//! Telling the service manager (sd_notify(3)): a unit with `Type=notify` is started once the node listens.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What is told: the node listens and hears signals.
const LISTENING: &[u8] = b"READY=1\nSTATUS=Listening";

/// Tells the service manager at this socket, the value of its `NOTIFY_SOCKET`, that the node listens.
///
/// # Errors
/// Where the socket can't be written to.
pub fn listening(socket: &OsStr) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(LISTENING, &address(socket)?)?;
    Ok(())
}

/// A path, or behind an `@` a name that is in no file system.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: not an absolute path", socket.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(receiver: &UnixDatagram) -> Vec<u8> {
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn a_socket_with_a_path_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        listening(path.as_os_str()).unwrap();
        assert_eq!(told(&receiver), LISTENING);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_without_a_path_is_told() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("carillon-test-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        listening(OsStr::new(&format!("@{name}"))).unwrap();
        assert_eq!(told(&receiver), LISTENING);
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        for socket in ["", "vsock:2:1234", "relative", "/nowhere/notify"] {
            assert!(listening(OsStr::new(socket)).is_err(), "{socket:?}");
        }
    }
}
