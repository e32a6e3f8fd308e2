//! The built-in profiles, as programs choose among them.

use crate::session::profile;

/// How a client is spoken to that no handler of the program serves: see [`Builder::profile`](super::Builder::profile).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Profile {
    /// Nothing is said on open; a message is echoed to its sender alone.
    Channel,
    /// The client is told its id on open and with each answer to `ping`; everything else that it says is ignored.
    Center,
    /// The client is told its device id on open, and may bring a stable one; what it says is ignored.
    Device,
    /// The client calls methods, and each call is acknowledged at once: see [`Controller`](super::Controller).
    Method,
}

impl Profile {
    /// Its name, as configuration has it: `channel`, `center`, `device`, `method`.
    pub fn as_str(self) -> &'static str {
        profile::Profile::from(self).as_str()
    }

    /// The one that sessions know by this; `None` of a handler.
    pub(super) fn of(profile: profile::Profile) -> Option<Self> {
        match profile {
            profile::Profile::Channel => Some(Self::Channel),
            profile::Profile::Center => Some(Self::Center),
            profile::Profile::Device => Some(Self::Device),
            profile::Profile::Method => Some(Self::Method),
            profile::Profile::Handler => None,
        }
    }
}

impl From<Profile> for profile::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Channel => Self::Channel,
            Profile::Center => Self::Center,
            Profile::Device => Self::Device,
            Profile::Method => Self::Method,
        }
    }
}
