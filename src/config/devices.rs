//! What devices are told by the configuration: heartbeats, and the device socket.

use super::parse::Reader;
use super::variables::of_profile;
use crate::api::device::SocketConfig;
use crate::hub::Heartbeat;
use crate::session::ProfileHeartbeats;
use crate::session::profile::Profile;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// How often a client of the profile `device` has a heartbeat: less than the minute or two after which proxies close what is
/// silent.
const DEVICE_INTERVAL: Duration = Duration::from_secs(60);

/// What a heartbeat says.
const MESSAGE: &str = r#"{"action":"hb"}"#;

/// Permission bits of the socket's file: its owner and group.
const MODE: u32 = 0o660;

/// Bytes of a unix socket's path: what a `sockaddr_un` holds, less the zero at its end (unix(7)).
const MAX_PATH: usize = 107;

/// Each profile's heartbeat: by its own variables (in `values`), else by those for all, else by the default.
pub(super) fn heartbeats(
    read: &mut Reader,
    interval: Option<String>,
    message: Option<String>,
    values: &HashMap<String, String>,
) -> ProfileHeartbeats {
    let (interval_name, message_name) = ("HEARTBEAT_INTERVAL", "HEARTBEAT_MESSAGE");
    let for_all = interval.map(|text| read.interval(interval_name, Some(text), Duration::ZERO));
    let message = message.unwrap_or_else(|| MESSAGE.to_owned());
    Profile::ALL.map(|profile| {
        let default = match profile {
            Profile::Device => DEVICE_INTERVAL,
            Profile::Channel | Profile::Center | Profile::Method | Profile::Handler => Duration::ZERO,
        };
        let own_name = of_profile(interval_name, profile);
        let own = values.get(&own_name).cloned();
        let own_message = values.get(&of_profile(message_name, profile)).cloned();
        Heartbeat {
            interval: read.interval(&own_name, own, for_all.unwrap_or(default)),
            message: own_message.unwrap_or_else(|| message.clone()),
        }
    })
}

/// The device socket, where there is to be one. Its other variables are read without it as well: a fault is one all the same.
pub(super) fn unix_socket(
    read: &mut Reader,
    path: Option<String>,
    mode: Option<String>,
    strict: Option<String>,
) -> Option<SocketConfig> {
    let mode = read.mode("UNIX_SOCKET_MODE", mode, MODE);
    let strict = read.flag("UNIX_SOCKET_STRICT", strict);
    let path = path?;
    if path.len() > MAX_PATH {
        read.faults.add("UNIX_SOCKET", &path, &format!("a path of at most {MAX_PATH} bytes"));
    }
    Some(SocketConfig { path: PathBuf::from(path), mode, strict })
}
