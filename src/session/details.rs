//! What the directory keeps of a connection from its handshake.

use super::profile::Profile;
use crate::auth::Claims;
use crate::query::Query;
use std::net::IpAddr;
use std::sync::Arc;

/// Bytes that a connect query may take in the directory, as JSON. It is memory of Redis's for each connection, so a longer one
/// is left out; as a whole, since what is left of one that was cut would pass for all of it.
const MAX_QUERY: usize = 4 << 10;

/// Names of parameters that hold tokens, whatever is configured: the events API's, and the one of clients that identify
/// themselves by a token.
const TOKENS: [&str; 2] = ["token", "auth"];

/// The details as [`cluster::Details`](crate::cluster::Details) reads them: profile, address, what the client's token says
/// (never the token), and the connect query without parameters that hold a token (`token_params` are the configured names of
/// such). Where nothing is left of the query there is no member for it.
pub(super) fn details(
    profile: Profile,
    address: IpAddr,
    query: &Query,
    token_params: [&str; 2],
    claims: Option<&Claims>,
) -> Arc<str> {
    let hidden = [token_params[0], token_params[1], TOKENS[0], TOKENS[1]];
    let query = serde_json::to_string(&query.without_any(&hidden)).unwrap_or_default();
    // Neither a profile's name nor an address has anything to escape.
    let mut details = format!(r#"{{"profile":"{}","address":"{address}""#, profile.as_str());
    if query.len() > MAX_QUERY {
        tracing::debug!(%address, bytes = query.len(), "connect query is too long for the directory and left out");
    } else if !matches!(query.as_str(), "" | "[]") {
        details.push_str(",\"query\":");
        details.push_str(&query);
    }
    if let Some(claims) = claims {
        details.push_str(",\"claims\":");
        details.push_str(&serde_json::to_string(claims.object()).unwrap_or_else(|_| "null".to_owned()));
    }
    details.push('}');
    details.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Details;
    use serde_json::{Value, json};

    fn written(query: &str) -> Arc<str> {
        let query = Query::parse(query.as_bytes()).unwrap();
        details(Profile::Center, "2001:db8::1".parse().unwrap(), &query, ["my_key", "sign_in"], None)
    }

    /// The query as it stands in the directory; nothing where there is no member for it.
    fn kept(query: &str) -> String {
        let written = written(query);
        let base = r#"{"profile":"center","address":"2001:db8::1""#;
        let rest = written.strip_prefix(base).and_then(|rest| rest.strip_suffix('}')).unwrap();
        if rest.is_empty() { String::new() } else { rest.strip_prefix(",\"query\":").unwrap().to_owned() }
    }

    #[test]
    fn the_query_is_kept_as_php_shows_it_without_tokens() {
        for (query, shown) in [
            ("", ""),
            ("user=5&room=a+b", r#"{"user":"5","room":"a b"}"#),
            ("channel[]=a&channel[]=b", r#"{"channel":["a","b"]}"#),
            ("a[5]=x&a[k][l]=y&7=z", r#"{"a":{"5":"x","k":{"l":"y"}},"7":"z"}"#),
            ("0=a&1=b", r#"["a","b"]"#),
            ("__proto__=1&constructor[prototype]=2", r#"{"__proto__":"1","constructor":{"prototype":"2"}}"#),
            ("a=%FF&%FFb=%22%00", "{\"a\":\"\u{fffd}\",\"\u{fffd}b\":\"\\\"\\u0000\"}"),
            ("name=%D0%87%F0%9F%94%94", "{\"name\":\"Ї🔔\"}"),
            ("token=s&auth=s&my_key=s&sign_in=s", ""),
            ("token[a]=s&auth[]=s&my.key=s&my%20key=s&+token=s&token%00x=s", ""),
            ("token=s&a[token]=kept&tokens=kept&Auth=kept", r#"{"a":{"token":"kept"},"tokens":"kept","Auth":"kept"}"#),
        ] {
            assert_eq!(kept(query), shown, "{query}");
        }
    }

    #[test]
    fn a_query_that_is_too_long_is_left_out_as_a_whole() {
        let around = r#"{"a":""}"#.len();
        let fits = "x".repeat(MAX_QUERY - around);
        assert_eq!(kept(&format!("a={fits}")).len(), MAX_QUERY);
        assert_eq!(kept(&format!("a={fits}x")), "");
        assert_eq!(kept(&format!("a={fits}&token={fits}")).len(), MAX_QUERY);
        // It is what is written that counts: this is six times as long as what was sent.
        assert_eq!(kept(&format!("a={}", "%01".repeat(MAX_QUERY / 5))), "");
    }

    #[test]
    fn whatever_a_client_writes_is_read_again_as_it_was() {
        let deep = format!("a{}=1", "[b]".repeat(crate::query::MAX_DEPTH));
        let token = "$serde_json::private::RawValue";
        for query in [
            &deep,
            &format!("{token}=1&a=2"),
            &format!("{token}=not+json"),
            &format!("a[{token}]={{"),
            "user=1&groups[]=2&profile=channel&query[]=3",
            "=1&[]=2&]=3&%22=%5C",
        ] {
            let details = Details::parse(&written(query));
            assert_eq!((details.profile.as_str(), details.address.as_str()), ("center", "2001:db8::1"), "{query}");
            assert_eq!((details.user, details.groups), (None, Vec::new()), "{query}");
            assert_eq!(details.query.to_string(), kept(query), "{query}");
        }
        assert_eq!(Details::parse(&written("")).query, Value::Null);
    }

    #[test]
    fn what_a_token_says_is_kept_as_it_came() {
        let object = json!({ "id": 7, "nickname": "\"Ж}", "nested": { "$serde_json::private::RawValue": 1 } });
        let claims = Claims::new(object.as_object().unwrap().clone()).unwrap();
        let query = Query::parse(b"a=1").unwrap();
        let address = "127.0.0.1".parse().unwrap();
        let written = details(Profile::Channel, address, &query, ["token", "auth"], Some(&claims));
        let read = Details::parse(&written);
        assert_eq!((read.claims, read.query), (object, json!({ "a": "1" })));
        assert_eq!(Details::parse(&details(Profile::Channel, address, &query, ["a", ""], None)).claims, Value::Null);
    }
}
