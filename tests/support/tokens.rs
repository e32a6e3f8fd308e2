//! Connection tokens, as a backend makes them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

/// A secret for HS256.
pub const SECRET: &str = "correct horse battery staple, and more";

/// A JWT with these claims, signed with HS256.
pub fn jwt(secret: &str, claims: &Value) -> String {
    signed(secret, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// The same with any header.
pub fn signed(secret: &str, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}

/// A JWK Set with one secret.
pub fn jwks(id: &str, secret: &str) -> String {
    json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret) }] }).to_string()
}
