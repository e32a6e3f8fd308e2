//! What an operator's request asks for.

use crate::operator::{Language, Operation, Phrase};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request, read.
pub(super) struct Asked {
    /// What to do, or what is wrong with what is asked.
    pub(super) operation: Result<Operation, Phrase>,
    /// What to tell everybody, as JSON; `None` where it is missing or empty.
    pub(super) say: Option<Box<RawValue>>,
    /// The language of the answer.
    pub(super) language: Language,
}

/// The members of a request that mean something; others are ignored.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Members {
    method: Option<Box<RawValue>>,
    say: Option<Box<RawValue>>,
    lang: Option<Box<RawValue>>,
}

impl Asked {
    /// A message of the management port: `{"method":"…","say":…,"lang":"…"}`. An error where it is no JSON object.
    pub(super) fn by_message(message: &[u8]) -> Result<Self, serde_json::Error> {
        let members = Members::parse(message)?;
        let operation = match members.method.as_deref().and_then(text) {
            Some(name) if !name.is_empty() => name.parse().map_err(|_| Phrase::NotAnOperation),
            Some(_) => Err(Phrase::NoOperation),
            None if members.method.is_some() => Err(Phrase::NotAnOperation),
            None => Err(Phrase::NoOperation),
        };
        Ok(members.asked(operation))
    }

    /// A request for `/admin/NAME`, whose body is empty or the same object without `method`.
    pub(super) fn by_http(name: &str, body: &[u8]) -> Result<Self, serde_json::Error> {
        let operation = match name {
            "" => Err(Phrase::NoOperation),
            name => name.parse().map_err(|_| Phrase::NotAnOperation),
        };
        let members = if body.trim_ascii().is_empty() { Members::default() } else { Members::parse(body)? };
        Ok(members.asked(operation))
    }
}

impl Members {
    fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        // A list would be read as the members in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(serde::de::Error::custom("it is not a JSON object"));
        }
        serde_json::from_slice(json)
    }

    fn asked(self, operation: Result<Operation, Phrase>) -> Asked {
        let language = self.lang.as_deref().and_then(text).and_then(|name| name.parse().ok());
        let say = self.say.filter(|say| !matches!(say.get(), "null" | "\"\"" | "[]" | "{}"));
        Asked { operation, say, language: language.unwrap_or_default() }
    }
}

/// A JSON text; `None` where the value is another one.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Result<(Result<Operation, Phrase>, Option<String>, Language), ()>;

    fn read(asked: Result<Asked, serde_json::Error>) -> Read {
        let said = |say: Box<RawValue>| say.get().to_owned();
        asked.map(|asked| (asked.operation, asked.say.map(said), asked.language)).map_err(drop)
    }

    #[test]
    fn a_message_names_its_operation() {
        use Language::{Chinese, English};
        for (message, operation, say, language) in [
            (r#"{"method":"status"}"#, Ok(Operation::Status), None, Chinese),
            (r#" {"x":[],"method":"stop","lang":"en"}"#, Ok(Operation::Stop), None, English),
            (r#"{"method":"say","say":"a\"<ї"}"#, Ok(Operation::Say), Some(r#""a\"<ї""#), Chinese),
            (r#"{"method":"say","say":{"a":[1]}}"#, Ok(Operation::Say), Some(r#"{"a":[1]}"#), Chinese),
            (r#"{"method":"say","say":0}"#, Ok(Operation::Say), Some("0"), Chinese),
            (r#"{"method":"say","say":""}"#, Ok(Operation::Say), None, Chinese),
            (r#"{"method":"say","say":null}"#, Ok(Operation::Say), None, Chinese),
            (r#"{"method":"reload","lang":"fr"}"#, Ok(Operation::Reload), None, Chinese),
            (r#"{"method":"reload","lang":1}"#, Ok(Operation::Reload), None, Chinese),
            (r#"{"method":"start"}"#, Err(Phrase::NotAnOperation), None, Chinese),
            (r#"{"method":"STOP"}"#, Err(Phrase::NotAnOperation), None, Chinese),
            (r#"{"method":["stop"],"lang":"en"}"#, Err(Phrase::NotAnOperation), None, English),
            (r#"{"method":""}"#, Err(Phrase::NoOperation), None, Chinese),
            (r#"{"method":null}"#, Err(Phrase::NoOperation), None, Chinese),
            ("{}", Err(Phrase::NoOperation), None, Chinese),
        ] {
            let wanted = Ok((operation, say.map(str::to_owned), language));
            assert_eq!(read(Asked::by_message(message.as_bytes())), wanted, "{message}");
        }
        for message in ["", "stop", "[]", r#"["stop"]"#, "null", r#"{"method":"stop""#, "{\"method\":\"\u{1}\"}"] {
            assert_eq!(read(Asked::by_message(message.as_bytes())), Err(()), "{message}");
        }
    }

    #[test]
    fn over_http_the_path_names_it_and_the_body_may_be_missing() {
        let read = |name, body: &str| read(Asked::by_http(name, body.as_bytes()));
        assert_eq!(read("stop", ""), Ok((Ok(Operation::Stop), None, Language::Chinese)));
        let said = Some("\"a\"".to_owned());
        assert_eq!(read("say", r#"{"say":"a","lang":"en"}"#), Ok((Ok(Operation::Say), said, Language::English)));
        assert_eq!(read("stop", r#"{"method":"reload"}"#), Ok((Ok(Operation::Stop), None, Language::Chinese)));
        assert_eq!(read("fly", "\n"), Ok((Err(Phrase::NotAnOperation), None, Language::Chinese)));
        assert_eq!(read("", ""), Ok((Err(Phrase::NoOperation), None, Language::Chinese)));
        assert_eq!(read("stop", "now"), Err(()));
    }
}
