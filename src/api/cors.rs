//! Which web pages may read the answers of the APIs (the Fetch standard's CORS protocol).

use super::answer::Answer;
use crate::service::Dialect;
use crate::session::origins::{AllowedOrigins, OriginError};
use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue, ORIGIN, VARY,
};
use std::str::FromStr;

/// What anything is in a header of CORS.
const ANY: HeaderValue = HeaderValue::from_static("*");

/// What an allowed page may send: `Authorization` is not among what `*` means.
const ANY_AND_TOKEN: HeaderValue = HeaderValue::from_static("*, Authorization");

/// The origins whose pages may call the APIs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum CorsOrigins {
    /// As the originals have it: all may call the events API, none the actions API.
    #[default]
    Originals,
    /// All may call both.
    All,
    /// These may call both.
    Some(AllowedOrigins),
}

impl FromStr for CorsOrigins {
    type Err = OriginError;

    /// `*`, or a list with commas between its origins.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        Ok(match text.trim() {
            "*" => Self::All,
            list => match list.parse()? {
                none if none == AllowedOrigins::default() => Self::Originals,
                some => Self::Some(some),
            },
        })
    }
}

impl CorsOrigins {
    /// Adds what a browser has to know to an answer of an API.
    pub(super) fn apply(&self, dialect: Dialect, request: &HeaderMap, answer: &mut Answer) {
        let headers = answer.headers_mut();
        match (self, dialect) {
            // No page reads what an operator is answered, and the others are out of every page's reach.
            (Self::Originals, Dialect::Actions)
            | (_, Dialect::Device | Dialect::Webhook | Dialect::Operator | Dialect::Library) => {}
            (Self::Originals, Dialect::Events) => allow(headers, ANY, ANY),
            (Self::All, Dialect::Actions | Dialect::Events) => allow(headers, ANY, ANY_AND_TOKEN),
            (Self::Some(origins), Dialect::Actions | Dialect::Events) => {
                headers.insert(VARY, HeaderValue::from_static("origin"));
                if let Some(origin) = request.get(ORIGIN)
                    && origins.allow(Some(origin.as_bytes()))
                {
                    allow(headers, origin.clone(), ANY_AND_TOKEN);
                }
            }
        }
    }
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue, sent: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ANY);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, sent);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
}

#[cfg(test)]
mod tests {
    use super::super::answer::bare;
    use super::*;
    use hyper::StatusCode;

    fn headers(origins: &str, dialect: Dialect, origin: Option<&'static str>) -> Vec<String> {
        let mut request = HeaderMap::new();
        request.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
        let mut answer = bare(StatusCode::OK);
        origins.parse::<CorsOrigins>().unwrap().apply(dialect, &request, &mut answer);
        answer.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn as_the_originals_unless_it_is_narrowed() {
        let events = [
            "access-control-allow-origin: *",
            "access-control-allow-methods: *",
            "access-control-allow-headers: *",
            "access-control-expose-headers: *",
        ];
        for origin in [None, Some("https://a.example")] {
            assert_eq!(headers("", Dialect::Events, origin), events);
            assert!(headers(" ,", Dialect::Actions, origin).is_empty());
        }
    }

    #[test]
    fn all_or_some_origins_may_call_both_apis() {
        for dialect in [Dialect::Actions, Dialect::Events] {
            let all = headers("*", dialect, None);
            assert_eq!(all[0], "access-control-allow-origin: *");
            assert_eq!(all[2], "access-control-allow-headers: *, Authorization");
            let list = "https://a.example, https://b.example";
            let some = headers(list, dialect, Some("https://b.example"));
            assert_eq!(some[..2], ["vary: origin", "access-control-allow-origin: https://b.example"]);
            for origin in [None, Some("https://c.example"), Some("null")] {
                assert_eq!(headers(list, dialect, origin), ["vary: origin"], "{origin:?}");
            }
        }
        assert!("https://a.example,*".parse::<CorsOrigins>().is_err());
    }
}
