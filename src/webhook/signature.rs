//! How an application knows who is speaking to it: HMAC-SHA256 (RFC 2104) over the time and the body.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// The secret that the cluster shares with the application. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret as it is configured.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value of the signature's header: `v1=` and the HMAC in hex, over the timestamp in seconds as it is written in its
    /// header, a dot, and the body.
    pub(super) fn sign(&self, timestamp: u64, body: &[u8]) -> String {
        // A key of any length is taken, so there is no error.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else { return String::new() };
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        let bytes = mac.finalize().into_bytes();
        bytes.iter().fold("v1=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_other_languages_compute() {
        // printf '1700000000.{"event":"open"}' | openssl dgst -sha256 -hmac secret
        let signed = Secret::new("secret").sign(1_700_000_000, br#"{"event":"open"}"#);
        assert_eq!(signed, "v1=bd9ce8326fcafebbd579f24c625b96f86bc0d02a8e2ce38059beef3dd5de8ad0");
        assert_eq!(format!("{:?}", Secret::new("secret")), "Secret");
    }
}
