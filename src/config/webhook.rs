//! What the configuration says of the application behind HTTP, and of clients of the profile `method`.

use super::parse::Reader;
use super::variables::of_profile;
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
    let events = profile_events(read, raw.events, values);
    let timeout =
        read.time_of_at_least("WEBHOOK_TIMEOUT", raw.timeout, Duration::from_secs(5), Duration::from_millis(100));
    let concurrency = read.number("WEBHOOK_CONCURRENCY", raw.concurrency, 64, 1..=10_000);
    let queue = read.bytes("WEBHOOK_QUEUE", raw.queue, 16 << 20, 1 << 16);
    let close_max_age = read.duration("WEBHOOK_CLOSE_MAX_AGE", raw.close_max_age, Duration::from_secs(3600));
    let open_required = read.flag_or("WEBHOOK_OPEN_REQUIRED", raw.open_required, true);
    let ca = raw.ca.and_then(|path| read.file("WEBHOOK_CA", path));
    let url = url(read, raw.url?)?;
    Some(WebhookConfig { url, ca, events, timeout, concurrency, queue, close_max_age, open_required })
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

/// Each profile's events: by its own variable (in `values`), else by the one for all, else every event.
fn profile_events(read: &mut Reader, events: Option<String>, values: &HashMap<String, String>) -> ProfileEvents {
    let name = "WEBHOOK_EVENTS";
    let all = EVENTS.iter().fold(Wanted::NOTHING, |all, (_, event)| all.with(*event));
    let all = read.list_of(name, events, all, parse_events, &allowed());
    Profile::ALL.map(|profile| {
        let own = of_profile(name, profile);
        let value = values.get(&own).cloned();
        read.list_of(&own, value, all, parse_events, &allowed())
    })
}

fn allowed() -> String {
    let names: Vec<&str> = EVENTS.iter().map(|(name, _)| *name).collect();
    format!("some of {}, separated by commas, or {NO_EVENTS}", names.join(", "))
}

fn parse_events(text: &str) -> Option<Wanted> {
    if text == NO_EVENTS {
        return Some(Wanted::NOTHING);
    }
    text.split(',').map(str::trim).try_fold(Wanted::NOTHING, |events, word| {
        let (_, event) = EVENTS.iter().find(|(name, _)| *name == word)?;
        Some(events.with(*event))
    })
}

/// Each profile's limit of silence: by its own variable (in `values`), else by the one for all, else by the default.
pub(super) fn idle_timeouts(
    read: &mut Reader,
    idle_timeout: Option<String>,
    values: &HashMap<String, String>,
) -> IdleTimeouts {
    let name = "IDLE_TIMEOUT";
    let for_all = idle_timeout.map(|text| read.duration(name, Some(text), Duration::ZERO));
    Profile::ALL.map(|profile| {
        let default = match profile {
            Profile::Method => METHOD_IDLE_TIMEOUT,
            Profile::Channel | Profile::Center | Profile::Device => Duration::ZERO,
        };
        let own = of_profile(name, profile);
        let value = values.get(&own).cloned();
        read.duration(&own, value, for_all.unwrap_or(default))
    })
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
            assert_eq!(parse_events(text), events, "{text:?}");
        }
    }
}
