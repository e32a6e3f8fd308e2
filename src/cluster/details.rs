//! What the directory keeps of a connection, as its readers see it.

use crate::hub::End;
use crate::model::json;
use serde_json::Value;

/// What the details of a connection begin with whose `close` has to be told to somebody, by another node where its own has died.
/// At the beginning, where nothing that a client has written can stand.
pub(super) const OWES_CLOSE: &str = r#"{"owes_close":true"#;

/// What the directory keeps of a connection, as compact JSON.
#[derive(Clone, PartialEq, Debug, serde::Deserialize)]
#[serde(default)]
pub struct Details {
    /// Its user, if it has one.
    pub user: Option<String>,
    /// Its groups, in no order.
    pub groups: Vec<String>,
    /// The query that it connected with, read by PHP's rules, tokens left out; `null` where nothing else was in it, or too
    /// much to be kept.
    #[serde(deserialize_with = "json::written_by_a_client")]
    pub query: Value,
    /// What the token that it connected with says, as it came, where it had one; else `null`.
    #[serde(deserialize_with = "json::written_by_a_client")]
    pub claims: Value,
    /// Whether its `close` has to be told to somebody.
    pub owes_close: bool,
    /// Of such a connection its channels, sorted; `None` where there are more than are kept.
    pub channels: Option<Vec<String>>,
    /// How it has ended, where it has.
    pub ended: Option<End>,
    /// Its client profile.
    pub profile: String,
    /// The address that it came from.
    pub address: String,
    /// The path that it asked for; empty where nobody is told of it.
    pub path: String,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            user: None,
            groups: Vec::new(),
            query: Value::Null,
            claims: Value::Null,
            owes_close: false,
            channels: Some(Vec::new()),
            ended: None,
            profile: String::new(),
            address: String::new(),
            path: String::new(),
        }
    }
}

impl Details {
    /// The same details (a JSON object), of a connection whose `close` has to be told: where its node dies another one does it,
    /// see [`Owed::Closed`](super::Owed::Closed).
    pub fn owing_close(json: &str) -> String {
        let rest = json.trim_start().strip_prefix('{').unwrap_or("}");
        let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
        format!("{OWES_CLOSE}{comma}{rest}")
    }

    /// Reads what this or another version has written; what can't be read is left at its default.
    pub fn parse(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_there_or_not_known_does_no_harm() {
        assert_eq!(Details::parse("{}"), Details::default());
        assert_eq!(Details::parse("not json"), Details::default());
        let details = Details::parse(r#"{"address":"::1","new":{"a":[1]},"user":"7","groups":["a","b"]}"#);
        assert_eq!((details.user.as_deref(), details.address.as_str()), (Some("7"), "::1"));
        assert_eq!((details.groups, details.query), (vec!["a".to_owned(), "b".to_owned()], Value::Null));
    }

    #[test]
    fn details_tell_whether_a_close_is_owed() {
        for json in ["{}", r#"{"user":"7"}"#, r#" { "user" : "7" }"#] {
            let owing = Details::owing_close(json);
            assert!(owing.starts_with(OWES_CLOSE), "{owing}");
            let expected = Details { owes_close: true, ..Details::parse(json) };
            assert_eq!(serde_json::from_str::<Details>(&owing).unwrap(), expected, "{owing}");
        }
        assert!(!Details::parse(r#"{"query":{"owes_close":true}}"#).owes_close);
    }

    #[test]
    fn a_query_of_any_shape_is_read() {
        let query = r#"{"z":"1","a":[{"k":null},true,-1,2,0.5],"$serde_json::private::RawValue":"x"}"#;
        let details = Details::parse(&format!(r#"{{"query":{query},"user":"7"}}"#));
        assert_eq!(details.query.to_string(), query);
        assert_eq!(details.user.as_deref(), Some("7"));
        assert_eq!(Details::parse(r#"{"query":["a","b"]}"#).query, json!(["a", "b"]));
        assert_eq!(Details::parse(r#"{"query":null}"#).query, Value::Null);
    }
}
