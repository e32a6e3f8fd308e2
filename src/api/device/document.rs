//! What a document says: one of five actions.

use super::refusal::Refusal;
use super::scanner::{Malformed, is_blank};
use crate::model::{DeviceId, Name};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Bytes of a text that a message about it shows.
const SHOWN: usize = 40;

/// What a backend wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// A message to every connection.
    Multicast { data: String },
    /// A message to a channel's connections.
    SendToChannel { channel: Name, data: String },
    /// A message to a device's connections.
    SendToDevice { device: Device, data: String },
    /// A device's connections become members of a channel.
    Subscribe { device: Device, channel: Name },
    /// They are members no more.
    Unsubscribe { device: Device, channel: Name },
}

/// Whom a document names as `device`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Device {
    /// The connection that was told this id.
    Connection(DeviceId),
    /// All connections that brought this stable id.
    Stable(Name),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(id) => id.fmt(f),
            Self::Stable(name) => name.fmt(f),
        }
    }
}

impl Action {
    /// Names of all, as documents have them.
    pub(super) const NAMES: [&str; 5] = ["multicast", "sendToChannel", "sendToDevice", "subscribe", "unsubscribe"];

    /// Reads a document that is known to be one JSON value, of whatever depth.
    pub(super) fn read(document: &[u8]) -> Result<Self, Refusal> {
        match document.first() {
            Some(b'{') => {}
            Some(b'n') => return Err(Refusal::Null),
            _ => return Err(Refusal::NotAnObject),
        }
        // What is no JSON for serde_json would be a fault of the scanner's.
        let members: Members<'_> =
            serde_json::from_slice(document).map_err(|_| Refusal::Malformed(Malformed::Syntax))?;
        let action = text("action", members.action)?;
        Ok(match &*action {
            "multicast" => Self::Multicast { data: members.data()? },
            "sendToChannel" => Self::SendToChannel { channel: members.channel()?, data: members.data()? },
            "sendToDevice" => Self::SendToDevice { device: members.device()?, data: members.data()? },
            "subscribe" => Self::Subscribe { device: members.device()?, channel: members.channel()? },
            "unsubscribe" => Self::Unsubscribe { device: members.device()?, channel: members.channel()? },
            unknown => return Err(Refusal::UnknownAction(shown(unknown))),
        })
    }

    /// Its name.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Multicast { .. } => Self::NAMES[0],
            Self::SendToChannel { .. } => Self::NAMES[1],
            Self::SendToDevice { .. } => Self::NAMES[2],
            Self::Subscribe { .. } => Self::NAMES[3],
            Self::Unsubscribe { .. } => Self::NAMES[4],
        }
    }
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN) {
        Some(end) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The members of a document that any action looks at, as they were written. Of a name that is there twice the last counts, as
/// in PHP.
#[derive(Default)]
struct Members<'a> {
    action: Option<&'a RawValue>,
    channel: Option<&'a RawValue>,
    device: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
}

impl Members<'_> {
    fn channel(&self) -> Result<Name, Refusal> {
        Name::new(&text("channel", self.channel)?).map_err(|why| Refusal::BadName("channel", why))
    }

    fn device(&self) -> Result<Device, Refusal> {
        let device = text("device", self.device)?;
        match device.parse() {
            Ok(id) => Ok(Device::Connection(id)),
            Err(()) => Name::new(&device).map(Device::Stable).map_err(|why| Refusal::BadName("device", why)),
        }
    }

    /// The message: compact, and otherwise as it was written.
    fn data(&self) -> Result<String, Refusal> {
        match self.data.map(RawValue::get) {
            None | Some("null") => Err(Refusal::Missing("data")),
            Some(data) => Ok(compact(data)),
        }
    }
}

/// A member that is a text. A whole number is the text of its digits, as it is as a key of a PHP array.
fn text<'a>(name: &'static str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, Refusal> {
    let value = value.map(RawValue::get).filter(|value| *value != "null").ok_or(Refusal::Missing(name))?;
    if value.starts_with('"') {
        return serde_json::from_str::<String>(value).map(Cow::Owned).map_err(|_| Refusal::NotAText(name));
    }
    value.parse::<i64>().map(|number| Cow::Owned(number.to_string())).map_err(|_| Refusal::NotAText(name))
}

/// JSON without the white space between its parts. Nothing else changes: numbers, escapes, and the order of keys stay.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_text, mut escaped, mut from) = (false, false, 0);
    for (at, byte) in json.bytes().enumerate() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if is_blank(byte) {
            compact.push_str(&json[from..at]);
            from = at + 1;
        } else {
            in_text = byte == b'"';
        }
    }
    compact.push_str(&json[from..]);
    compact
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<Cow<'_, str>>()? {
                    let member = match &*name {
                        "action" => &mut members.action,
                        "channel" => &mut members.channel,
                        "device" => &mut members.device,
                        "data" => &mut members.data,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *member = Some(map.next_value()?);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scanner::MAX_DEPTH;
    use super::*;
    use crate::model::NameError;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn read(document: &str) -> Result<Action, Refusal> {
        Action::read(document.as_bytes())
    }

    #[test]
    fn the_five_actions_are_read() {
        let (channel, data) = (name("news"), "[1]".to_owned());
        let stable = Device::Stable(name("1234567"));
        let connection = Device::Connection("TFysIWAAAUAAAAH".parse().unwrap());
        for (document, action) in [
            (r#"{"action":"multicast","data":[ 1 ]}"#, Action::Multicast { data: data.clone() }),
            (
                r#"{"action":"sendToChannel","channel":"news","data":[1]}"#,
                Action::SendToChannel { channel: channel.clone(), data: data.clone() },
            ),
            (
                r#"{"data":[1],"device":"1234567","action":"sendToDevice"}"#,
                Action::SendToDevice { device: stable.clone(), data: data.clone() },
            ),
            (
                r#"{"action":"sendToDevice","device":1234567,"data":[1],"more":{"x":[]}}"#,
                Action::SendToDevice { device: stable.clone(), data: data.clone() },
            ),
            (
                r#"{"\u0061ction":"subscri\u0062e","device":"TFysIWAAAUAAAAH","channel":"news"}"#,
                Action::Subscribe { device: connection.clone(), channel: channel.clone() },
            ),
            (
                r#"{"action":"subscribe","action":"unsubscribe","device":"1234567","channel":"x","channel":"news"}"#,
                Action::Unsubscribe { device: stable, channel },
            ),
        ] {
            assert_eq!(read(document).as_ref(), Ok(&action), "{document}");
            assert!(Action::NAMES.contains(&action.name()));
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (document, refusal) in [
            ("null", Refusal::Null),
            ("7", Refusal::NotAnObject),
            ("[]", Refusal::NotAnObject),
            ("\"multicast\"", Refusal::NotAnObject),
            ("{}", Refusal::Missing("action")),
            (r#"{"action":null}"#, Refusal::Missing("action")),
            (r#"{"action":["multicast"]}"#, Refusal::NotAText("action")),
            (r#"{"action":"Multicast","data":1}"#, Refusal::UnknownAction("Multicast".to_owned())),
            (r#"{"action":"multicast"}"#, Refusal::Missing("data")),
            (r#"{"action":"multicast","data":1,"data":null}"#, Refusal::Missing("data")),
            (r#"{"action":"sendToChannel","data":1}"#, Refusal::Missing("channel")),
            (r#"{"action":"sendToChannel","channel":1.5,"data":1}"#, Refusal::NotAText("channel")),
            (r#"{"action":"sendToChannel","channel":"","data":1}"#, Refusal::BadName("channel", NameError::Empty)),
            (r#"{"action":"sendToDevice","data":1}"#, Refusal::Missing("device")),
            (r#"{"action":"sendToDevice","device":true,"data":1}"#, Refusal::NotAText("device")),
            (r#"{"action":"subscribe","device":"a\n","channel":"c"}"#, Refusal::BadName("device", NameError::Control)),
            (r#"{"action":"subscribe","device":"a"}"#, Refusal::Missing("channel")),
        ] {
            assert_eq!(read(document), Err(refusal), "{document}");
        }
        let long = format!(r#"{{"action":"{}"}}"#, "ї".repeat(100));
        assert_eq!(read(&long), Err(Refusal::UnknownAction(format!("{}…", "ї".repeat(SHOWN / 2)))));
    }

    #[test]
    fn data_is_compact_and_otherwise_as_it_was_written() {
        for (written, delivered) in [
            ("1.50e+010", "1.50e+010"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("\"\"", "\"\""),
            ("false", "false"),
            (" { \"b\" : [ 1 ,\n2 ] ,\t\"a\" : { } } ", "{\"b\":[1,2],\"a\":{}}"),
            (r#"" \" \\" "#, r#"" \" \\""#),
            (r#"["\\", " a ", "\/é\u00e9" ]"#, r#"["\\"," a ","\/é\u00e9"]"#),
        ] {
            let document = format!(r#"{{"action":"multicast","data":{written}}}"#);
            assert_eq!(read(&document), Ok(Action::Multicast { data: delivered.to_owned() }), "{document}");
        }
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        let document = format!(r#"{{"ignored":{deep},"action":"multicast","data":{deep}}}"#);
        assert_eq!(read(&document), Ok(Action::Multicast { data: deep }));
    }
}
