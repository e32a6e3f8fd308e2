//! Keys for JSON Web Tokens: from a secret, from PEM, from a JWK Set. Each is for one algorithm, whatever a token says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde_json::Value;
use std::fmt;
use std::ops::RangeInclusive;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The most keys of one set: a token that names none is tried with each of its algorithm.
const MAX_KEYS: usize = 64;

/// Bytes of the shortest secret for HS256 (RFC 7518, section 3.2).
const SHORTEST_SECRET: usize = 32;

/// Bytes of an RSA modulus: from what is secure (RFC 7518, section 3.3) to what `ring` takes.
const MODULUS: RangeInclusive<usize> = 256..=1024;

/// Bytes of a point on P-256 as it is, with the byte for that in front, and of one on Ed25519.
const P256_POINT: usize = 65;
const ED25519_POINT: usize = 32;

/// The identifier of P-256 in DER (RFC 5480, section 2.1.1.1).
const PRIME256V1: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A key, and the one algorithm that it is for.
#[derive(Clone)]
pub struct JwtKey {
    /// Its id (`kid`): tokens that name another are not tried with it. Without one all are.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why a text gives no key. None of it shows the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// A secret that is too short.
    #[error("secret is shorter than {SHORTEST_SECRET} bytes")]
    ShortSecret,
    /// A secret that is a public key, or may be one: whoever has it could sign.
    #[error("secret is a key in pem, der or jwk, which may be no secret: public keys are for JWT_PUBLIC_KEY")]
    KeyAsSecret,
    /// A text that is not one public key in PEM.
    #[error("not one public key in pem (`BEGIN PUBLIC KEY`)")]
    NotPem,
    /// A public key that no token is checked with.
    #[error("public key is none of rsa of 2048 to 8192 bits, p-256 and ed25519")]
    Kind,
    /// A file that is no JWK Set.
    #[error("not a jwk set (rfc 7517)")]
    NotJwks,
    /// A JWK Set with nothing to check tokens with.
    #[error("jwk set has no key for HS256, RS256, ES256 or EdDSA")]
    NoKeys,
    /// A JWK Set that is too large.
    #[error("jwk set has more than {MAX_KEYS} keys")]
    ManyKeys,
    /// A key in a JWK Set that can't be one of its kind.
    #[error("key {0} of the jwk set (counted from 0) can't be one of its kind")]
    BadKey(usize),
}

impl JwtKey {
    /// The secret of HS256 (RFC 7518, section 3.2), its bytes as they are.
    pub fn from_secret(secret: &str) -> Result<Self, KeyError> {
        let is_jwk = serde_json::from_str::<Value>(secret).is_ok_and(|json| json.is_object());
        if secret.contains("-----BEGIN ") || is_jwk || is_public_der(secret) {
            return Err(KeyError::KeyAsSecret);
        }
        let key = DecodingKey::from_secret(secret.as_bytes());
        Self::fitting(None, Algorithm::HS256, key).ok_or(KeyError::ShortSecret)
    }

    /// A public key in PEM: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let public = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"];
        if !public.iter().any(|begin| text.starts_with(begin)) || text.matches("-----BEGIN").count() != 1 {
            return Err(KeyError::NotPem);
        }
        let pem = text.as_bytes();
        let (algorithm, key) = if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            if !is_on_p256(text) {
                return Err(KeyError::Kind);
            }
            (Algorithm::ES256, key)
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (Algorithm::EdDSA, key)
        } else {
            (Algorithm::RS256, DecodingKey::from_rsa_pem(pem).map_err(|_| KeyError::NotPem)?)
        };
        Self::fitting(None, algorithm, key).ok_or(KeyError::Kind)
    }

    /// The keys of a JWK Set (RFC 7517, section 5). Those for something else, such as encryption or other algorithms, are left
    /// out; the set has to have at least one that is not.
    pub fn from_jwks(text: &str) -> Result<Vec<Self>, KeyError> {
        let mut set: Value = serde_json::from_str(text).map_err(|_| KeyError::NotJwks)?;
        let Some(Value::Array(list)) = set.get_mut("keys").map(Value::take) else { return Err(KeyError::NotJwks) };
        if list.len() > MAX_KEYS {
            return Err(KeyError::ManyKeys);
        }
        let mut keys = Vec::new();
        for (number, key) in list.into_iter().enumerate() {
            let Ok(key) = serde_json::from_value::<Jwk>(key) else { return Err(KeyError::BadKey(number)) };
            let Some(algorithm) = use_of(&key) else { continue };
            let bad = KeyError::BadKey(number);
            let Ok(decoded) = DecodingKey::from_jwk(&key).map(without_zeros) else { return Err(bad) };
            keys.push(Self::fitting(key.common.key_id, algorithm, decoded).ok_or(bad)?);
        }
        if keys.is_empty() { Err(KeyError::NoKeys) } else { Ok(keys) }
    }

    /// `None` where a key of that algorithm has another length.
    fn fitting(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Option<Self> {
        let fits = match (algorithm, key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => secret.len() >= SHORTEST_SECRET,
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => {
                RSAPublicKey::from_der(der).is_ok_and(|(_, key)| MODULUS.contains(&significant(key.modulus).len()))
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => MODULUS.contains(&n.len()),
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => point.len() == P256_POINT && point[0] == 4,
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => point.len() == ED25519_POINT,
            _ => false,
        };
        fits.then_some(Self { id, algorithm, key })
    }
}

/// A number without the zeros in front.
fn significant(number: &[u8]) -> &[u8] {
    number.iter().position(|&byte| byte != 0).map_or(&[], |first| &number[first..])
}

/// An RSA key as RFC 7518 has it (section 6.3.1.1): some issuers write the zero that DER has in front of a modulus, and `ring`
/// then takes no signature of theirs.
fn without_zeros(key: DecodingKey) -> DecodingKey {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            DecodingKey::from_rsa_raw_components(significant(n), significant(e))
        }
        DecodingKeyKind::SecretOrDer(_) => key,
    }
}

/// Whether a text is a public key in PEM whose first and last line are missing.
fn is_public_der(text: &str) -> bool {
    let base64: String = text.split_ascii_whitespace().collect();
    STANDARD
        .decode(base64)
        .is_ok_and(|der| SubjectPublicKeyInfo::from_der(&der).is_ok() || RSAPublicKey::from_der(&der).is_ok())
}

/// Whether a key in PEM names P-256 as its curve, as others have points of the same length.
fn is_on_p256(pem: &str) -> bool {
    let base64: String = pem.lines().map(str::trim).filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(base64).is_ok_and(|der| der.windows(PRIME256V1.len()).any(|part| part == PRIME256V1))
}

/// The algorithm that a key checks tokens by; `None` where it is for something else.
fn use_of(key: &Jwk) -> Option<Algorithm> {
    let common = &key.common;
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify))
        && common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let algorithm = match &key.algorithm {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let named = common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    (verifies && named).then_some(algorithm)
}

impl PartialEq for JwtKey {
    fn eq(&self, other: &Self) -> bool {
        let same = match (self.key.kind(), other.key.kind()) {
            (DecodingKeyKind::SecretOrDer(mine), DecodingKeyKind::SecretOrDer(theirs)) => mine == theirs,
            (
                DecodingKeyKind::RsaModulusExponent { n, e },
                DecodingKeyKind::RsaModulusExponent { n: other_n, e: other_e },
            ) => (n, e) == (other_n, other_e),
            _ => false,
        };
        same && (&self.id, self.algorithm) == (&other.id, other.algorithm)
    }
}

impl Eq for JwtKey {}

impl fmt::Debug for JwtKey {
    /// Shows what it is for, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKey({:?}, {:?})", self.algorithm, self.id)
    }
}
