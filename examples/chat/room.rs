//! Who is where, and what is told there.

use carillon::{Audience, ConnectionId, Error, Handle, Name, Push, Target};
use serde::Serialize;
use std::fmt;

/// Characters of a room's name, and of a person's.
const LONGEST: usize = 40;

/// What stands between room and name in the name of a group, and so in neither.
const BETWEEN: char = '/';

/// What clients are told.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    Here { names: Vec<&'a str> },
    Joined { name: &'a str },
    Left { name: &'a str },
    Said { name: &'a str, text: &'a str },
    Whispered { name: &'a str, to: &'a str, text: &'a str },
    Error { text: &'a str },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Somebody in a room.
pub(crate) struct Place {
    pub(crate) name: Name,
    /// Everybody in the room.
    pub(crate) room: Audience,
    /// This name's connections in the room.
    pub(crate) presence: Audience,
    /// How the presences of the room begin.
    beginning: String,
}

impl Place {
    pub(crate) fn new(room: &str, name: &str) -> Result<Self, String> {
        let (room, name) = (checked("room", room)?, checked("name", name)?);
        let beginning = format!("{room}{BETWEEN}");
        let presence = Name::new(&format!("{beginning}{name}")).map_err(|error| error.to_string())?;
        Ok(Self { name, room: Audience::channel(room), presence: Audience::group(presence), beginning })
    }

    /// A message for the room.
    pub(crate) fn tell(&self, event: &Event<'_>) -> Push {
        Push::text(self.room.clone(), event.to_string())
    }

    /// Who is in the room, on whichever node.
    pub(crate) async fn here(&self, cluster: &Handle) -> Result<String, Error> {
        let groups = cluster.groups().await?;
        let names = groups.iter().filter_map(|(group, _)| group.as_str().strip_prefix(&self.beginning));
        Ok(Event::Here { names: names.collect() }.to_string())
    }

    /// Whether the same name is in the room by another connection as well.
    pub(crate) async fn is_elsewhere(&self, cluster: &Handle, but_for: ConnectionId) -> Result<bool, Error> {
        let connections = cluster.members(&self.presence).await?;
        Ok(connections.into_iter().any(|connection| connection != but_for))
    }

    /// Tells somebody something, and the one who says it; false where there is nobody of that name.
    pub(crate) async fn whisper(&self, cluster: &Handle, to: &str, text: &str) -> Result<bool, Error> {
        let Ok(to) = checked("name", to) else { return Ok(false) };
        let receiver = Audience::user(to.clone());
        if cluster.count_members(&receiver).await? == 0 {
            return Ok(false);
        }
        let whispered = Event::Whispered { name: self.name.as_str(), to: to.as_str(), text }.to_string();
        let both = Target::Audiences(vec![receiver, Audience::user(self.name.clone())]);
        cluster.publish(Push::text(both, whispered)).await?;
        Ok(true)
    }
}

fn checked(what: &str, name: &str) -> Result<Name, String> {
    if name.chars().count() > LONGEST || name.contains(BETWEEN) {
        return Err(format!("{what}: at most {LONGEST} characters, and no {BETWEEN}"));
    }
    Name::new(name).map_err(|error| format!("{what}: {error}"))
}
