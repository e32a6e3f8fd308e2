//! Values out of texts. A fault is noted and a default goes on in its place, so that all faults are found in one run.

use crate::cluster::redis::SHORTEST_LEASE;
use crate::model::{beginning, shown_path};
use crate::tls::{Source, TlsConfig};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The shortest time between two pings: the shards look for who is due five times a second.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);

/// Everything that is wrong with the environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    pub(super) fn add(&mut self, name: &str, value: &str, allowed: &str) {
        self.0.push(format!("{name}={}: allowed is {allowed}", shown(name, value)));
    }

    /// For a value whose own parser says what is wrong with it.
    pub(super) fn wrong(&mut self, name: &str, value: &str, why: &str) {
        self.0.push(format!("{name}={}: {why}", shown(name, value)));
    }

    /// Whether there is one about any of these variables.
    pub(super) fn name_any(&self, names: &[&str]) -> bool {
        self.0.iter().any(|fault| names.iter().any(|name| fault.starts_with(name)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value as a fault shows it: not at all where its variable may hold a secret, a key given by mistake for another included.
fn shown(name: &str, value: &str) -> String {
    let secret =
        ["TOKEN", "REDIS_URL", "WEBHOOK_URL", "WEBHOOK_SECRET", "AUTH_KEY", "JWT_SECRET", "JWT_PUBLIC_KEY", "TLS_KEY"];
    if secret.iter().any(|secret| name.contains(secret)) {
        "(not shown)".to_owned()
    } else if name.starts_with("JWT_JWKS") && !Path::new(value).exists() {
        shown_path(value)
    } else {
        format!("{:?}", shortened(value))
    }
}

/// Values can be files of any size; a line of log can't.
fn shortened(value: &str) -> Cow<'_, str> {
    beginning(value, 80)
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// Reads values and notes faults.
pub(super) struct Reader {
    pub(super) faults: Faults,
}

impl Reader {
    fn read<T>(
        &mut self,
        name: &str,
        text: Option<String>,
        default: T,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = text else { return default };
        parse(text.trim()).unwrap_or_else(|| {
            self.faults.add(name, &text, allowed);
            default
        })
    }

    pub(super) fn address(&mut self, name: &str, text: Option<String>, default: IpAddr) -> IpAddr {
        let allowed = "an IP address such as 127.0.0.1, 0.0.0.0 or ::, or localhost";
        self.read(name, text, default, allowed, |text| match text {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            "*" => Some(IpAddr::from([0, 0, 0, 0])),
            text => text.parse().ok(),
        })
    }

    /// Certificate and key, both or neither.
    pub(super) fn tls(&mut self, certificate: Option<String>, key: Option<String>) -> Option<TlsConfig> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(TlsConfig { certificate: Source::new(certificate), key: Source::new(key) })
            }
            (Some(_), None) => {
                self.faults.add("TLS_KEY", "", "the certificate's private key, as TLS_CERT is set");
                None
            }
            (None, Some(_)) => {
                self.faults.add("TLS_CERT", "", "the certificate, as TLS_KEY is set");
                None
            }
            (None, None) => None,
        }
    }

    pub(super) fn port(&mut self, name: &str, text: Option<String>, default: u16) -> u16 {
        // For a Service called `ws` Kubernetes gives every pod of its namespace WS_PORT=tcp://….
        let by_kubernetes = text.as_ref().is_some_and(|text| text.trim_start().starts_with("tcp://"));
        let hint = if by_kubernetes {
            "; this one is Kubernetes's, for a Service of that name: set enableServiceLinks: false for the pod"
        } else {
            ""
        };
        self.read(name, text, default, &format!("a port, 0 to 65535{hint}"), |text| text.parse().ok())
    }

    /// An address that has to be `other`, as one port can't have two.
    pub(super) fn same_address(&mut self, name: &str, text: String, other: IpAddr) -> IpAddr {
        let address = self.address(name, Some(text.clone()), other);
        if address != other {
            let allowed =
                format!("{other}, the HTTP port's address, as the two share their port (HTTP_HOST, HTTP_TOKEN)");
            self.faults.add(name, &text, &allowed);
        }
        other
    }

    /// A port that is none of the others.
    pub(super) fn other_port(&mut self, name: &str, text: String, others: &[u16]) -> u16 {
        let port = self.port(name, Some(text.clone()), 0);
        if port != 0 && others.contains(&port) {
            self.faults.add(name, &text, "a port that is not WS_PORT or HTTP_PORT, nor that of another variable");
        }
        port
    }

    /// The name of a query parameter that is not one of the APIs' own.
    pub(super) fn parameter(&mut self, name: &str, text: Option<String>, default: &str) -> String {
        let allowed = "letters, digits, - and _, and not action, event, to or message";
        self.read(name, text, default.to_owned(), allowed, |text| {
            let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            (plain && !["action", "event", "to", "message"].contains(&text)).then(|| text.to_owned())
        })
    }

    /// The path of a file that can be read.
    pub(super) fn file(&mut self, name: &str, path: String) -> Option<PathBuf> {
        match std::fs::read(&path) {
            Ok(_) => Some(PathBuf::from(path)),
            Err(error) => {
                self.faults.add(name, &path, &format!("the path of a readable file ({error})"));
                None
            }
        }
    }

    pub(super) fn number<N: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        name: &str,
        text: Option<String>,
        default: N,
        range: RangeInclusive<N>,
    ) -> N {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, text, default, &allowed, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    pub(super) fn bytes(&mut self, name: &str, text: Option<String>, default: usize, least: usize) -> usize {
        let allowed = format!("a size such as 65536, 512KiB or 1MiB, at least {least}");
        self.read(name, text, default, &allowed, |text| parse_bytes(text).filter(|bytes| *bytes >= least))
    }

    pub(super) fn duration(&mut self, name: &str, text: Option<String>, default: Duration) -> Duration {
        self.read(name, text, default, "a time such as 500ms, 10s or 2m (a bare number is seconds)", parse_duration)
    }

    /// None at all, or one that is not shorter than what the hub's own clock can tell.
    pub(super) fn interval(&mut self, name: &str, text: Option<String>, default: Duration) -> Duration {
        let allowed = format!("0, or a time of at least {SHORTEST_INTERVAL:?}, such as 25s");
        self.read(name, text, default, &allowed, |text| {
            parse_duration(text).filter(|interval| interval.is_zero() || *interval >= SHORTEST_INTERVAL)
        })
    }

    /// Permission bits of a file, in octal.
    pub(super) fn mode(&mut self, name: &str, text: Option<String>, default: u32) -> u32 {
        self.read(name, text, default, "an octal number from 0 to 0777, such as 0660", |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777)
        })
    }

    pub(super) fn time_of_at_least(
        &mut self,
        name: &str,
        text: Option<String>,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let allowed = format!("a time of at least {least:?}, such as 5s");
        self.read(name, text, default, &allowed, |text| parse_duration(text).filter(|time| *time >= least))
    }

    /// A list, by its own parser.
    pub(super) fn list_of<T>(
        &mut self,
        name: &str,
        text: Option<String>,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
        allowed: &str,
    ) -> T {
        self.read(name, text, default, allowed, parse)
    }

    pub(super) fn lease(&mut self, name: &str, text: Option<String>, default: Duration) -> Duration {
        let allowed = format!("a time of at least {SHORTEST_LEASE:?}, such as 10s");
        self.read(name, text, default, &allowed, |text| parse_duration(text).filter(|lease| *lease >= SHORTEST_LEASE))
    }

    pub(super) fn flag(&mut self, name: &str, text: Option<String>) -> bool {
        self.flag_or(name, text, false)
    }

    pub(super) fn flag_or(&mut self, name: &str, text: Option<String>, default: bool) -> bool {
        self.read(name, text, default, "true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// The first choice is the default.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, text: Option<String>, choices: &[(&str, T)]) -> T {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let find = |text: &str| choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        self.read(name, text, choices[0].1, &names.join(", "), find)
    }

    /// A value whose own parser says what is wrong with it.
    pub(super) fn value<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, text: Option<String>, default: T) -> T {
        let Some(text) = text else { return default };
        match text.parse() {
            Ok(value) => value,
            Err(error) => {
                self.faults.wrong(name, &text, &error.to_string());
                default
            }
        }
    }

    pub(super) fn filter(&mut self, name: &str, text: Option<String>, default: &str) -> String {
        let allowed = "error, warn, info, debug, trace, or a list such as info,carillon::cluster=debug";
        self.read(name, text, default.to_owned(), allowed, |text| {
            // A bare word that is no level would be taken for a module's name, and nothing else be logged.
            let part = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
            let fits = text.split(',').all(part) && text.parse::<Targets>().is_ok();
            fits.then(|| text.to_owned())
        })
    }

    /// The URL as it is; what is wrong with it is noted.
    pub(super) fn redis_url(&mut self, name: &str, text: String) -> String {
        let schemes = ["redis", "rediss", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"];
        let fits = url::Url::parse(&text).is_ok_and(|url| {
            let database = url.path().trim_start_matches('/');
            let numbered = database.is_empty() || database.parse::<u8>().is_ok();
            schemes.contains(&url.scheme()) && url.has_host() && numbered
        });
        if !fits {
            self.faults.add(
                name,
                &text,
                &format!(
                    "a URL with a host, a number of a database or none, and one of the schemes {}",
                    schemes.join(", ")
                ),
            );
        }
        text
    }

    pub(super) fn prefix(&mut self, name: &str, text: Option<String>, default: &str) -> String {
        let allowed = "a text without braces, which would change which keys lie together in a Redis Cluster";
        self.read(name, text, default.to_owned(), allowed, |text| (!text.contains(['{', '}'])).then(|| text.to_owned()))
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" | "kb" => 1 << 10,
        "m" | "mib" | "mb" => 1 << 20,
        "g" | "gib" | "gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match text[digits..].trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    // A day is the longest that makes sense anywhere here, and keeps sums of times from overflowing.
    number.checked_mul(milliseconds).filter(|ms| *ms <= 86_400_000).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        for (text, value) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("2KiB", Some(2048)),
            ("1 MiB", Some(1 << 20)),
            ("1m", Some(1 << 20)),
            ("x", None),
            ("", None),
            ("-1", None),
            ("1TiB", None),
            ("99999999999999999999", None),
            ("18446744073709551615k", None),
        ] {
            assert_eq!(parse_bytes(text), value, "{text:?}");
        }
        for (text, value) in [
            ("0", Some(0)),
            ("10", Some(10_000)),
            ("250ms", Some(250)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("1.5s", None),
            ("s", None),
            ("-1s", None),
            ("25h", None),
        ] {
            assert_eq!(parse_duration(text), value.map(Duration::from_millis), "{text:?}");
        }
    }
}
