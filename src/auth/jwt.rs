//! JSON Web Tokens (RFC 7519), signed (RFC 7515).

use super::keys::JwtKey;
use super::provider;
use super::rejection::Rejection;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// What signed tokens are checked with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JwtRules {
    /// The keys; without any, tokens of this form are refused.
    pub keys: Vec<JwtKey>,
    /// The `iss` that tokens have to have; `None`: any or none.
    pub issuer: Option<String>,
    /// The `aud` that tokens have to have, alone or among others; `None`: tokens that have one are refused (RFC 7519,
    /// section 4.1.3).
    pub audience: Option<String>,
}

impl JwtRules {
    /// The object in a token whose signature, issuer and audience are right. Its times are not looked at.
    pub(super) fn open(&self, token: &[u8]) -> Result<Map<String, Value>, Rejection> {
        provider::install();
        // `none` is no algorithm to the library.
        let unreadable = Rejection::Malformed("its header can't be read, or names no known algorithm");
        let Ok(header) = decode_header(token) else { return Err(unreadable) };
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: what is critical has to be understood.
            return Err(Rejection::Malformed("its header has critical members"));
        }
        let is_named = |key: &&JwtKey| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            (None, _) | (_, None) => true,
        };
        let mut named = self.keys.iter().filter(is_named).peekable();
        if named.peek().is_none() {
            return Err(Rejection::UnknownKey);
        }
        // The key says what it is for; what the token says has to be the same.
        let mut rejection = Rejection::Algorithm;
        for key in named.filter(|key| key.algorithm == header.alg) {
            match decode(token, &key.key, &self.validation(key)) {
                Ok(data) => return self.audience_of(data.claims),
                Err(error) => match because(error.kind()) {
                    Rejection::Signature => rejection = Rejection::Signature,
                    other => return Err(other),
                },
            }
        }
        Err(rejection)
    }

    /// The library passes over an `aud` that is no text and no list of texts.
    fn audience_of(&self, claims: Map<String, Value>) -> Result<Map<String, Value>, Rejection> {
        match claims.get("aud") {
            Some(audience) if self.audience.is_none() && !audience.is_null() => Err(Rejection::Audience),
            Some(_) | None => Ok(claims),
        }
    }

    fn validation(&self, key: &JwtKey) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        // Times are looked at in the claims, by one rule for all forms.
        validation.validate_exp = false;
        validation.required_spec_claims = HashSet::new();
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        validation
    }
}

fn because(kind: &ErrorKind) -> Rejection {
    match kind {
        ErrorKind::InvalidSignature => Rejection::Signature,
        ErrorKind::InvalidAlgorithm => Rejection::Algorithm,
        ErrorKind::InvalidIssuer => Rejection::Issuer,
        ErrorKind::InvalidAudience => Rejection::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Rejection::Issuer,
        ErrorKind::MissingRequiredClaim(_) => Rejection::Audience,
        ErrorKind::Json(_) => Rejection::Malformed("it is no json object, or nests too deep"),
        _ => Rejection::Malformed("its parts can't be read"),
    }
}
