//! Who a connection says it is: tokens that a backend hands out, in two forms, and what they claim.
//!
//! | file | what it is about |
//! |---|---|
//! | `jwt`, `keys`, `provider` | JSON Web Tokens; the keys that they are checked with; their signatures |
//! | `triple_des` | the older form, kept for those who have it |
//! | `claims` | what a token says: user, group, device, channels, times |
//! | `patterns` | sets of channels, by name or by beginning |
//! | `bearer` | a token in a header |
//! | `rejection` | why a token is not taken |
//!
//! Sockets and requests are unknown here. Keys and tokens are never shown, in no log line and no `Debug`.

mod bearer;
mod claims;
mod jwt;
mod keys;
mod patterns;
mod provider;
mod rejection;
mod triple_des;

pub use bearer::bearer;
pub(crate) use claims::text;
pub use claims::{Claims, Times};
pub use jwt::JwtRules;
pub use keys::{JwtKey, KeyError};
pub use patterns::{ChannelPatterns, PatternError};
pub use rejection::Rejection;

use std::time::{SystemTime, UNIX_EPOCH};
use triple_des::TripleDesKey;

/// Bytes of the longest token that is looked at. What is in it is kept for as long as the connection lasts.
pub const MAX_TOKEN: usize = 8 << 10;

/// Checks tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verifier {
    jwt: JwtRules,
    triple_des: Option<TripleDesKey>,
    times: Times,
}

impl Verifier {
    /// One that takes signed tokens by these rules, and none of the older form.
    pub fn new(jwt: JwtRules, times: Times) -> Self {
        Self { jwt, triple_des: None, times }
    }

    /// Has it take tokens of the older form as well, by this key, which is filled up with zeros; `None` where the key is empty
    /// or longer than 24 bytes.
    pub fn with_triple_des(self, key: &str) -> Option<Self> {
        Some(Self { triple_des: Some(TripleDesKey::new(key)?), ..self })
    }

    /// Whether it has a key at all.
    pub fn has_keys(&self) -> bool {
        self.triple_des.is_some() || !self.jwt.keys.is_empty()
    }

    /// What a token says, if it is genuine and may be used at that time.
    pub fn verify(&self, token: &[u8], now: SystemTime) -> Result<Claims, Rejection> {
        if token.len() > MAX_TOKEN {
            return Err(Rejection::TooLong);
        }
        // No token can be of both forms: a dot stands in every one that is signed, and in none of the other form.
        let object = match &self.triple_des {
            _ if token.contains(&b'.') => match self.jwt.keys.is_empty() {
                false => self.jwt.open(token)?,
                true => return Err(Rejection::NoKey("a json web token")),
            },
            Some(key) => key.open(token)?,
            None => return Err(Rejection::NoKey("no json web token")),
        };
        let claims = Claims::new(object)?;
        let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        claims.check_times(now, self.times)?;
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
