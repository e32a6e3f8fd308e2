//! What a program has set, looked at before a server is made of it.

use super::builder::BuildError;
use crate::model::Limits;
use std::time::Duration;

/// For ever, and yet a time that can be added to a moment without an overflow. Variables can't be so long.
pub(super) const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Variables that say nothing to a server that was put together here: the builder has a method for it, or they are about the
/// binary's own process. Taken without a word they would be worse than refused: `HTTP_TOKEN` would leave the APIs open.
const OF_THE_BINARY: [&str; 36] = [
    "WS_HOST",
    "WS_PORT",
    "PORT",
    "HTTP_HOST",
    "HTTP_PORT",
    "HTTP_TOKEN",
    "TOKEN",
    "TLS_CERT",
    "TLS_KEY",
    "HTTP_TLS",
    "TRUSTED_PROXIES",
    "CLIENT_PROFILES",
    "REDIS_URL",
    "REDIS_PREFIX",
    "REDIS_CA",
    "NODE_LEASE",
    "REDIS_ALLOW_EVICTION",
    "REDIS_POOL",
    "MAX_MESSAGE",
    "MAX_PUSH",
    "MAX_BODY",
    "MAX_CHANNELS",
    "MAX_GROUPS",
    "MAX_UNSENT",
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_PER_ADDRESS",
    "PING_INTERVAL",
    "HUB_QUEUE",
    "HANDSHAKE_TIMEOUT",
    "CONNECT_TIMEOUT",
    "ACT_TIMEOUT",
    "DRAIN_DELAY",
    "DRAIN_PERIOD",
    "WORKERS",
    "LOG",
    "LOG_FORMAT",
];

/// Whether a server can be told these variables, each with something in it: an empty one would be taken as none, and a key that a
/// program has failed to find would leave open what it is to guard.
pub(super) fn check(variables: &[(String, String)]) -> Result<(), BuildError> {
    for (name, value) in variables {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        if !crate::config::names().any(|known| known == plain) {
            return Err(BuildError::Variable(name.clone()));
        }
        if OF_THE_BINARY.contains(&plain) {
            return Err(BuildError::OwnMethod(name.clone()));
        }
        if value.is_empty() {
            return Err(BuildError::Empty(name.clone()));
        }
    }
    Ok(())
}

/// The same limits with times that clocks can work with.
pub(super) fn countable(limits: Limits) -> Limits {
    let Limits { handshake_timeout, ping_interval, act_timeout, connect_timeout, .. } = limits;
    Limits {
        handshake_timeout: handshake_timeout.min(FOR_EVER),
        ping_interval: ping_interval.min(FOR_EVER),
        act_timeout: act_timeout.min(FOR_EVER),
        connect_timeout: connect_timeout.min(FOR_EVER),
        ..limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_binarys_alone_exists() {
        for name in OF_THE_BINARY {
            assert!(crate::config::names().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn each_variable_is_taken_refused_or_unknown() {
        let checked = |name: &str, value: &str| check(&[(name.to_owned(), value.to_owned())]);
        assert!(checked("AUTH_REQUIRED", "true").is_ok());
        assert!(checked("JWT_SECRET_FILE", "/secret").is_ok());
        assert!(matches!(checked("JWT_SECRET", ""), Err(BuildError::Empty(name)) if name == "JWT_SECRET"));
        assert!(matches!(checked("AUTH_KEY_FILE", ""), Err(BuildError::Empty(name)) if name == "AUTH_KEY_FILE"));
        for name in OF_THE_BINARY {
            assert!(matches!(checked(name, "1"), Err(BuildError::OwnMethod(refused)) if refused == name));
        }
        assert!(matches!(checked("HTTP_TOKEN_FILE", "/x"), Err(BuildError::OwnMethod(_))));
        assert!(matches!(checked("NO_SUCH", "1"), Err(BuildError::Variable(_))));
    }
}
