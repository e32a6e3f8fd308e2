//! What a service manager tells its services.

use std::ffi::OsString;

/// Where the service manager wants to be told that the node listens (`NOTIFY_SOCKET`, sd_notify(3)).
pub fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}
