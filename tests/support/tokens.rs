//! Connection tokens, as a backend makes them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

/// A secret for HS256.
pub const SECRET: &str = "correct horse battery staple, and more";

/// What makes a node take tokens that are signed with it.
pub const JWT_SECRET: (&str, &str) = ("JWT_SECRET", SECRET);

/// A token of the older form for the key `kfw001-websocket`: user `1`, group `room1`.
pub const TRIPLE_DES: &str =
    "bTF2BGJT*b3mGOqrYAI7qEm72yKdkkH*SQGCe0*UHexy8S6Wj3M0R89HVUWxv3jk*c9jf8N85tUzkcJvj5QZPwilZcPwOXMV:JPCNAdrrA4_";

/// A JWT with these claims, signed with HS256.
pub fn jwt(secret: &str, claims: &Value) -> String {
    signed(secret, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// The same with any header.
pub fn signed(secret: &str, header: &Value, claims: &Value) -> String {
    signed_text(secret, header, &claims.to_string())
}

/// The same with claims that are any text.
pub fn signed_text(secret: &str, header: &Value, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}

/// A JWK Set with one secret.
pub fn jwks(id: &str, secret: &str) -> String {
    json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret) }] }).to_string()
}
