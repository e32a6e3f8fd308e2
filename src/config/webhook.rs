//! What the configuration says of the application behind HTTP, and of clients of the profile `method`.

use super::parse::Reader;
use super::variables::of_profile;
use crate::cluster::ChannelEvents;
use crate::session::IdleTimeouts;
use crate::session::hooks::Wanted;
use crate::session::profile::Profile;
use crate::webhook::{ProfileEvents, WebhookConfig};
use hyper::Uri;
use std::collections::HashMap;
use std::time::Duration;

/// How long a client of the profile `method` may be silent: its contract's minute.
const METHOD_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The events by their names.
const EVENTS: [(&str, Wanted); 3] = [("open", Wanted::OPEN), ("message", Wanted::MESSAGE), ("close", Wanted::CLOSE)];

/// The events of channels.
const CHANNEL_EVENTS: [&str; 2] = ["channel_occupied", "channel_vacated"];

/// The word for no event at all, as an empty variable is an unset one.
const NO_EVENTS: &str = "none";

/// The variables as they were found.
pub(super) struct RawWebhook {
    pub(super) url: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) events: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) concurrency: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) close_max_age: Option<String>,
    pub(super) open_required: Option<String>,
}

/// The application, where there is one. Its other variables are read without it as well: a fault is one all the same.
pub(super) fn webhook(read: &mut Reader, raw: RawWebhook, values: &HashMap<String, String>) -> Option<WebhookConfig> {
    let (events, channel_events) = events(read, raw.events, values);
    let timeout =
        read.time_of_at_least("WEBHOOK_TIMEOUT", raw.timeout, Duration::from_secs(5), Duration::from_millis(100));
    let concurrency = read.number("WEBHOOK_CONCURRENCY", raw.concurrency, 64, 1..=10_000);
    let queue = read.bytes("WEBHOOK_QUEUE", raw.queue, 16 << 20, 1 << 16);
    let close_max_age = read.duration("WEBHOOK_CLOSE_MAX_AGE", raw.close_max_age, Duration::from_secs(3600));
    let open_required = read.flag_or("WEBHOOK_OPEN_REQUIRED", raw.open_required, true);
    let ca = raw.ca.and_then(|path| read.file("WEBHOOK_CA", path));
    let url = url(read, raw.url?)?;
    Some(WebhookConfig { url, ca, events, channel_events, timeout, concurrency, queue, close_max_age, open_required })
}

fn url(read: &mut Reader, text: String) -> Option<Uri> {
    let uri = text.trim().parse::<Uri>().ok().filter(|uri| {
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        web && host
    });
    if uri.is_none() {
        read.faults.add("WEBHOOK_URL", &text, "an http or https URL without a user or password");
    }
    uri
}

/// Each profile's events: by its own variable (in `values`), else by the one for all, else every event of a connection. Those of
/// channels, which have no profile, by the one for all, else none.
fn events(
    read: &mut Reader,
    events: Option<String>,
    values: &HashMap<String, String>,
) -> (ProfileEvents, ChannelEvents) {
    let name = "WEBHOOK_EVENTS";
    let all = EVENTS.iter().fold(Wanted::NOTHING, |all, (_, event)| all.with(*event));
    let default = (all, ChannelEvents::default());
    let all = allowed(EVENTS.iter().map(|(name, _)| *name).chain(CHANNEL_EVENTS));
    let (wanted, channels) = read.list_of(name, events, default, parse_events, &all);
    let of_connections = allowed(EVENTS.iter().map(|(name, _)| *name));
    let profiles = Profile::ALL.map(|profile| {
        let own = of_profile(name, profile);
        let value = values.get(&own).cloned();
        read.list_of(&own, value, wanted, parse_connection_events, &of_connections)
    });
    (profiles, channels)
}

fn allowed(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<&str> = names.collect();
    format!("some of {}, separated by commas, or {NO_EVENTS}", names.join(", "))
}

fn parse_events(text: &str) -> Option<(Wanted, ChannelEvents)> {
    let (mut wanted, mut channels) = (Wanted::NOTHING, ChannelEvents::default());
    if text == NO_EVENTS {
        return Some((wanted, channels));
    }
    for word in text.split(',').map(str::trim) {
        match CHANNEL_EVENTS.iter().position(|name| *name == word) {
            Some(0) => channels.occupied = true,
            Some(_) => channels.vacated = true,
            None => wanted = wanted.with(EVENTS.iter().find(|(name, _)| *name == word)?.1),
        }
    }
    Some((wanted, channels))
}

/// The same of those alone that a connection has.
fn parse_connection_events(text: &str) -> Option<Wanted> {
    parse_events(text).filter(|(_, channels)| *channels == ChannelEvents::default()).map(|(wanted, _)| wanted)
}

/// Each profile's limit of silence: by its own variable (in `values`), else by the one for all, else by the default.
pub(super) fn idle_timeouts(
    read: &mut Reader,
    idle_timeout: Option<String>,
    values: &HashMap<String, String>,
) -> IdleTimeouts {
    let name = "IDLE_TIMEOUT";
    let for_all = idle_timeout.map(|text| read.duration(name, Some(text), Duration::ZERO));
    let profiles = Profile::ALL.map(|profile| {
        let default = match profile {
            Profile::Method => METHOD_IDLE_TIMEOUT,
            Profile::Channel | Profile::Center | Profile::Device | Profile::Handler => Duration::ZERO,
        };
        let own = of_profile(name, profile);
        let value = values.get(&own).cloned();
        read.duration(&own, value, for_all.unwrap_or(default))
    });
    IdleTimeouts { profiles, handlers: Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_one_by_one() {
        let all = Wanted::OPEN.with(Wanted::MESSAGE).with(Wanted::CLOSE);
        for (text, events) in [
            ("open,message,close", Some(all)),
            ("close, open", Some(Wanted::OPEN.with(Wanted::CLOSE))),
            ("message", Some(Wanted::MESSAGE)),
            ("none", Some(Wanted::NOTHING)),
            ("", None),
            ("open,", None),
            ("none,open", None),
            ("Open", None),
        ] {
            assert_eq!(parse_connection_events(text), events, "{text:?}");
        }
        let both = ChannelEvents::ALL;
        assert_eq!(parse_events("channel_vacated,close,channel_occupied"), Some((Wanted::CLOSE, both)));
        assert_eq!(parse_connection_events("close,channel_vacated"), None, "a channel has no profile");
    }
}
