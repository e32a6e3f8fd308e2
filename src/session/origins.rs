//! Which web pages may connect (RFC 6455, section 10.2).

use std::str::FromStr;

/// The origins whose pages may connect; with none in the list, all may.
///
/// A request without `Origin` does not come from a browser and passes: the check keeps foreign pages from using a
/// visitor's browser, and every other client could write what it likes anyway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedOrigins(Vec<String>);

/// A text in the list that no browser sends as its origin.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("origin {0:?} is not of the form scheme://host or scheme://host:port")]
pub struct OriginError(String);

impl AllowedOrigins {
    /// Whether a request with this `Origin` header may connect.
    pub fn allow(&self, origin: Option<&[u8]>) -> bool {
        match origin {
            Some(origin) if !self.0.is_empty() => {
                self.0.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
            }
            Some(_) | None => true,
        }
    }
}

impl FromStr for AllowedOrigins {
    type Err = OriginError;

    /// A list with commas between its origins.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        text.split(',')
            .map(str::trim)
            .filter(|origin| !origin.is_empty())
            .map(|origin| match origin.split_once("://") {
                Some((scheme, host)) if !scheme.is_empty() && !host.is_empty() && !host.contains('/') => {
                    Ok(origin.to_owned())
                }
                Some(_) | None => Err(OriginError(origin.to_owned())),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_list_may_connect() {
        let some: AllowedOrigins = "https://a.example, capacitor://localhost,http://b.example:8080".parse().unwrap();
        for good in ["https://a.example", "https://A.example", "capacitor://localhost", "http://b.example:8080"] {
            assert!(some.allow(Some(good.as_bytes())), "{good}");
        }
        for bad in ["http://a.example", "https://a.example.evil", "https://a.example:8443", "null", ""] {
            assert!(!some.allow(Some(bad.as_bytes())), "{bad}");
        }
        assert!(some.allow(None));
    }

    #[test]
    fn without_a_list_all_may_connect() {
        for text in ["", " ,"] {
            assert!(text.parse::<AllowedOrigins>().unwrap().allow(Some(b"https://anywhere.example")));
        }
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for text in ["a.example", "https://", "://a", "https://a.example/", "*"] {
            assert_eq!(text.parse::<AllowedOrigins>(), Err(OriginError(text.to_owned())));
        }
    }
}
