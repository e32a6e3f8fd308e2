//! Tokens in Triple DES: the older form, kept for those who have it.
//!
//! The claims' JSON in EDE3 and ECB mode with PKCS#5 padding (the contract, section Handshake). Nothing in it proves where a
//! token comes from but that it decrypts to JSON: blocks can be cut out and put together again, which is why JWT is better.

use super::rejection::Rejection;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use des::TdesEde3;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeDecrypt as _, KeyInit as _};
use serde_json::{Map, Value};
use std::fmt;

/// Bytes of a key: three of DES.
const KEY: usize = 24;

/// Standard base64, with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key for tokens of this form.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TripleDesKey([u8; KEY]);

impl TripleDesKey {
    /// `None` where the text is empty or longer than a key.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut key = [b'0'; KEY];
        key.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        (!text.is_empty()).then_some(Self(key))
    }

    /// The object in a token.
    pub(super) fn open(&self, token: &[u8]) -> Result<Map<String, Value>, Rejection> {
        let token: Option<Vec<u8>> = token.iter().map(|&sign| from_url(sign)).collect();
        let token = token.ok_or(Rejection::Malformed("it is not base64"))?;
        let mut bytes = BASE64.decode(token).map_err(|_| Rejection::Malformed("it is not base64"))?;
        let decryptor = ecb::Decryptor::<TdesEde3>::new(&self.0.into());
        let json = decryptor.decrypt_padded::<Pkcs7>(&mut bytes).map_err(|_| Rejection::Signature)?;
        // With another key the padding is right once in 256 times: what is no JSON is then the same fault.
        serde_json::from_slice::<Value>(json).map_err(|_| Rejection::Signature).and_then(|value| match value {
            Value::Object(object) => Ok(object),
            _ => Err(Rejection::Malformed("it is not an object")),
        })
    }
}

impl fmt::Debug for TripleDesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TripleDesKey")
    }
}

/// The sign of base64 that is written so in a URL.
fn from_url(sign: u8) -> Option<u8> {
    match sign {
        b'*' => Some(b'+'),
        b':' => Some(b'/'),
        b'_' => Some(b'='),
        b'+' | b'/' | b'=' => None,
        sign => Some(sign),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ecb::cipher::BlockModeEncrypt as _;
    use serde_json::json;

    const CLAIMS: &str = r#"{"id":"1","type":"wall","code":"room1","nickname":"n","ctime":1503650000}"#;
    const TOKEN: &str =
        "bTF2BGJT*b3mGOqrYAI7qEm72yKdkkH*SQGCe0*UHexy8S6Wj3M0R89HVUWxv3jk*c9jf8N85tUzkcJvj5QZPwilZcPwOXMV:JPCNAdrrA4_";

    /// A token with this text in it.
    pub(in crate::auth) fn sealed(key: &str, text: &str) -> String {
        let key = TripleDesKey::new(key).unwrap();
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 8, 0);
        let encryptor = ecb::Encryptor::<TdesEde3>::new(&key.0.into());
        let bytes = encryptor.encrypt_padded::<Pkcs7>(&mut bytes, text.len()).unwrap();
        BASE64.encode(bytes).replace('+', "*").replace('/', ":").replace('=', "_")
    }

    fn opened(key: &str, token: &str) -> Result<Value, Rejection> {
        TripleDesKey::new(key).unwrap().open(token.as_bytes()).map(Value::Object)
    }

    #[test]
    fn the_vector_of_the_contract() {
        assert_eq!(opened("kfw001-websocket", TOKEN).unwrap().to_string(), CLAIMS);
        assert_eq!(sealed("kfw001-websocket", CLAIMS), TOKEN);
        assert_eq!(opened("kfw001-websocket", TOKEN.trim_end_matches('_')).unwrap().to_string(), CLAIMS);
        // Padded with zeros, by the server or by whoever has configured it.
        assert_eq!(opened("kfw001-websocket00000000", TOKEN).unwrap().to_string(), CLAIMS);
    }

    #[test]
    fn what_is_not_made_with_the_key_is_refused() {
        let key = "kfw001-websocket";
        let mut tampered = TOKEN.as_bytes().to_vec();
        tampered[0] ^= 1;
        let raw = TOKEN.replace('*', "+").replace(':', "/").replace('_', "=");
        for (token, found) in [
            (String::from_utf8(tampered).unwrap(), Rejection::Signature),
            (sealed("another", CLAIMS), Rejection::Signature),
            (TOKEN[..TOKEN.len() - 12].to_owned(), Rejection::Signature),
            (TOKEN[..TOKEN.len() - 15].to_owned(), Rejection::Malformed("it is not base64")),
            ("x".to_owned(), Rejection::Malformed("it is not base64")),
            ("abcd efgh".to_owned(), Rejection::Malformed("it is not base64")),
            (raw, Rejection::Malformed("it is not base64")),
            (String::new(), Rejection::Signature),
            ("AAAA".to_owned(), Rejection::Signature),
            (sealed(key, ""), Rejection::Signature),
            (sealed(key, "{\"id\":1"), Rejection::Signature),
            (sealed(key, "[1]"), Rejection::Malformed("it is not an object")),
            (sealed(key, "\"1\""), Rejection::Malformed("it is not an object")),
        ] {
            assert_eq!(opened(key, &token), Err(found), "{token}");
        }
        assert_eq!(opened(key, &sealed(key, "{}")), Ok(json!({})));
    }

    #[test]
    fn a_key_has_1_to_24_bytes_and_is_not_shown() {
        assert!(TripleDesKey::new("").is_none());
        assert!(TripleDesKey::new(&"k".repeat(25)).is_none());
        assert_eq!(format!("{:?}", TripleDesKey::new("secret").unwrap()), "TripleDesKey");
    }
}
