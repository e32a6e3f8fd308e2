//! Tokens of every kind that must be taken or refused. Signed here, with the keys' other halves.

use super::triple_des::tests::sealed;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};
use std::time::Duration;

/// An RSA key of 2048 bits that guards nothing.
const RSA: &str = include_str!("../../tests/data/rsa_key.pem");

/// A public key of 1024 bits.
const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDKd92Y9wMy8IWiYf4n71TVKFF3
/JBKsfX89AsJVIxnEvhywcVKfjTSn7aleJiUhFwdckMnM8OZGBmAWv8BYxcgT8Lv
OgjogIYGyyzFX7H1PUDqSQLG+Q7dTvmU28/NzcH8mGApyaXF1kUS5nq+/EQCqsfb
9zycRS/QdIOWDc7U8QIDAQAB
-----END PUBLIC KEY-----";

/// A public key on secp256k1, whose points are as long as those on P-256.
const SECP256K1: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE5igMpC4uenNaCcoz8sOVeNHsduJXuAiY
qXxiCrrS+YVecxkw0pOwDST5DTBdKxOflHMNbYzlAi2zzNEFgWEBlw==
-----END PUBLIC KEY-----";

const UNREADABLE: Rejection = Rejection::Malformed("its header can't be read, or names no known algorithm");

const NO_OBJECT: Rejection = Rejection::Malformed("it is no json object, or nests too deep");

const SECRET: &str = "a secret that is as long as it has to be";
const NOW: u64 = 1_800_000_000;

/// Both halves of a key.
enum Signer {
    Secret(Vec<u8>),
    Rsa(&'static dyn signature::RsaEncoding),
    Ec(&'static signature::EcdsaSigningAlgorithm, KeyPair),
    Ed(KeyPair),
    /// No signature at all.
    Nobody,
}

fn rsa() -> RsaKeyPair {
    let text: String = RSA.lines().filter(|line| !line.starts_with('-')).collect();
    RsaKeyPair::from_pkcs8(&STANDARD.decode(text).unwrap()).unwrap()
}

fn rsa_pem() -> String {
    let der = STANDARD.encode(signature::KeyPair::public_key(&rsa()).as_ref());
    format!("-----BEGIN RSA PUBLIC KEY-----\n{der}\n-----END RSA PUBLIC KEY-----\n")
}

impl Signer {
    fn secret(text: &str) -> Self {
        Self::Secret(text.as_bytes().to_vec())
    }

    fn p256() -> Self {
        Self::Ec(&ECDSA_P256_SHA256_FIXED_SIGNING, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    fn p384() -> Self {
        Self::Ec(&ECDSA_P384_SHA384_FIXED_SIGNING, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())
    }

    fn ed25519() -> Self {
        Self::Ed(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Self::Rsa(encoding) => {
                let key = rsa();
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &random, message, &mut signed).unwrap();
                signed
            }
            Self::Ec(algorithm, key) => {
                let key = EcdsaKeyPair::from_pkcs8(algorithm, key.serialized_der(), &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed(key) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.serialized_der())
                .unwrap()
                .sign(message)
                .as_ref()
                .to_vec(),
            Self::Nobody => Vec::new(),
        }
    }

    /// A token with this header and these claims.
    fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signed = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }

    /// The public half in PEM.
    fn pem(&self) -> String {
        match self {
            Self::Rsa(_) => rsa_pem(),
            Self::Ec(_, key) | Self::Ed(key) => key.public_key_pem(),
            Self::Secret(_) | Self::Nobody => panic!("it has none"),
        }
    }

    /// The key as a JWK.
    fn jwk(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Secret(secret) => json!({ "kty": "oct", "kid": id, "k": encode(secret) }),
            Self::Rsa(_) => {
                let parts = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(rsa().public());
                json!({ "kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": encode(&parts.n), "e": encode(&parts.e) })
            }
            Self::Ec(_, key) => {
                let (x, y) = key.der_bytes()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "key_ops": ["verify"], "x": encode(x), "y": encode(y) })
            }
            Self::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(key.der_bytes()) }),
            Self::Nobody => panic!("it has none"),
        }
    }
}

fn verifier(keys: Vec<JwtKey>) -> Verifier {
    let times = Times { max_age: None, leeway: 10 };
    Verifier::new(JwtRules { keys, ..JwtRules::default() }, times)
}

fn verify(verifier: &Verifier, token: &str) -> Result<Option<String>, Rejection> {
    let claims = verifier.verify(token.as_bytes(), UNIX_EPOCH + Duration::from_secs(NOW));
    claims.map(|claims| claims.user.map(|user| user.to_string()))
}

fn algorithm(name: &str) -> Value {
    json!({ "alg": name, "typ": "JWT" })
}

#[test]
fn each_algorithm_takes_what_its_key_has_signed_and_nothing_of_another_key() {
    let claims = json!({ "id": 7, "exp": NOW + 60 });
    let secret = JwtKey::from_secret(SECRET).unwrap();
    let pem = |signer: &Signer| JwtKey::from_pem(&signer.pem()).unwrap();
    let (rsa, ec, ed) = (Signer::Rsa(&RSA_PKCS1_SHA256), Signer::p256(), Signer::ed25519());
    for (name, key, signer, other) in [
        ("HS256", secret, Signer::secret(SECRET), Signer::secret("another secret, and also long enough")),
        ("RS256", pem(&rsa), rsa, Signer::Rsa(&RSA_PKCS1_SHA512)),
        ("ES256", pem(&ec), ec, Signer::p256()),
        ("EdDSA", pem(&ed), ed, Signer::ed25519()),
    ] {
        let one = verifier(vec![key]);
        let good = signer.token(&algorithm(name), &claims);
        assert_eq!(verify(&one, &good), Ok(Some("7".to_owned())), "{name}");
        assert_eq!(verify(&one, &other.token(&algorithm(name), &claims)), Err(Rejection::Signature), "{name}");

        let parts: Vec<&str> = good.split('.').collect();
        let signed = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let shorter = URL_SAFE_NO_PAD.encode(&signed[..signed.len() - 1]);
        let others = URL_SAFE_NO_PAD.encode(json!({ "id": 8, "exp": NOW + 60 }).to_string());
        for (tampered, why) in [
            (format!("{}.{others}.{}", parts[0], parts[2]), Rejection::Signature),
            (format!("{}.{}.", parts[0], parts[1]), Rejection::Signature),
            (format!("{}.{}.{shorter}", parts[0], parts[1]), Rejection::Signature),
            (format!("{}.{}.!", parts[0], parts[1]), Rejection::Malformed("its parts can't be read")),
        ] {
            assert_eq!(verify(&one, &tampered), Err(why), "{name}: {tampered}");
        }
    }
}

#[test]
fn the_key_says_what_the_algorithm_is_and_never_the_token() {
    let claims = json!({ "id": "mallory" });
    let (rsa, ec) = (Signer::Rsa(&RSA_PKCS1_SHA256), Signer::p256());
    let both = verifier(vec![JwtKey::from_pem(&rsa.pem()).unwrap(), JwtKey::from_pem(&ec.pem()).unwrap()]);
    let one = verifier(vec![JwtKey::from_secret(SECRET).unwrap()]);
    let public = |pem: &str| Signer::secret(pem);
    for (keys, signer, header, why) in [
        (&both, Signer::Nobody, algorithm("none"), UNREADABLE),
        (&both, Signer::Nobody, algorithm("None"), UNREADABLE),
        (&one, Signer::Nobody, algorithm("none"), UNREADABLE),
        (&both, Signer::Nobody, json!({ "typ": "JWT" }), UNREADABLE),
        // The public key, which everybody may have, as the secret.
        (&both, public(&rsa.pem()), algorithm("HS256"), Rejection::Algorithm),
        (&both, public(&ec.pem()), algorithm("HS256"), Rejection::Algorithm),
        (&both, Signer::p384(), algorithm("ES384"), Rejection::Algorithm),
        (&both, Signer::p384(), algorithm("ES256"), Rejection::Signature),
        (&both, Signer::p256(), algorithm("RS256"), Rejection::Signature),
        (&both, Signer::Rsa(&RSA_PKCS1_SHA512), algorithm("RS512"), Rejection::Algorithm),
        (&one, Signer::Rsa(&RSA_PKCS1_SHA256), algorithm("RS256"), Rejection::Algorithm),
        (&one, Signer::secret(SECRET), algorithm("HS512"), Rejection::Algorithm),
        (&one, Signer::secret(SECRET), algorithm("XS256"), UNREADABLE),
        (
            &one,
            Signer::secret(SECRET),
            json!({ "alg": "HS256", "crit": ["exp"] }),
            Rejection::Malformed("its header has critical members"),
        ),
    ] {
        assert_eq!(verify(keys, &signer.token(&header, &claims)), Err(why), "{header}");
    }
}

#[test]
fn a_jwk_set_has_its_keys_by_id() {
    let (rsa, ec, ed) = (Signer::Rsa(&RSA_PKCS1_SHA256), Signer::p256(), Signer::ed25519());
    let set = json!({ "keys": [
        rsa.jwk("r"), ec.jwk("e"), ed.jwk("d"), Signer::secret(SECRET).jwk("s"),
        { "kty": "RSA", "use": "enc", "kid": "x", "n": "AQAB", "e": "AQAB" },
        { "kty": "EC", "crv": "P-521", "kid": "y", "x": "AQAB", "y": "AQAB" },
        { "kty": "new", "kid": "z" },
    ] });
    let keys = verifier(JwtKey::from_jwks(&set.to_string()).unwrap());
    let other = Signer::p256();
    for (signer, header, found) in [
        (&rsa, json!({ "alg": "RS256", "kid": "r" }), Ok(())),
        (&ec, json!({ "alg": "ES256", "kid": "e" }), Ok(())),
        (&ed, json!({ "alg": "EdDSA", "kid": "d" }), Ok(())),
        (&Signer::secret(SECRET), json!({ "alg": "HS256", "kid": "s" }), Ok(())),
        (&ec, json!({ "alg": "ES256" }), Ok(())),
        (&ec, json!({ "alg": "ES256", "kid": "unknown" }), Err(Rejection::UnknownKey)),
        (&ec, json!({ "alg": "ES256", "kid": "x" }), Err(Rejection::UnknownKey)),
        (&ec, json!({ "alg": "ES256", "kid": "r" }), Err(Rejection::Algorithm)),
        (&other, json!({ "alg": "ES256", "kid": "e" }), Err(Rejection::Signature)),
        (&other, json!({ "alg": "ES256" }), Err(Rejection::Signature)),
        // The key that a token brings along counts for nothing.
        (&other, json!({ "alg": "ES256", "jwk": other.jwk("e") }), Err(Rejection::Signature)),
    ] {
        let token = signer.token(&header, &json!({}));
        assert_eq!(verify(&keys, &token), found.map(|()| None), "{header}");
    }
    // A key without an id is for every token of its algorithm.
    let one = verifier(vec![JwtKey::from_pem(&ec.pem()).unwrap()]);
    assert_eq!(verify(&one, &ec.token(&json!({ "alg": "ES256", "kid": "any" }), &json!({}))), Ok(None));
}

#[test]
fn an_rsa_key_with_zeros_in_front_is_the_same_key() {
    let signer = Signer::Rsa(&RSA_PKCS1_SHA256);
    let parts = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(rsa().public());
    let (n, e) = ([vec![0], parts.n].concat(), [vec![0], parts.e].concat());
    let key = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
    let keys = verifier(JwtKey::from_jwks(&json!({ "keys": [key] }).to_string()).unwrap());
    assert_eq!(verify(&keys, &signer.token(&algorithm("RS256"), &json!({ "id": 1 }))), Ok(Some("1".to_owned())));
}

#[test]
fn keys_of_a_set_with_one_id_are_all_tried_and_each_is_for_its_own_algorithm() {
    let (rsa, ec, other) = (Signer::Rsa(&RSA_PKCS1_SHA256), Signer::p256(), Signer::p256());
    let with = |mut key: Value, member: &str, value: Value| {
        key[member] = value;
        key
    };
    let set = json!({ "keys": [
        rsa.jwk("k"), ec.jwk("k"), other.jwk("k"), Signer::secret(SECRET).jwk("k"),
        with(Signer::secret("another secret, which is not for signatures").jwk("enc"), "use", json!("enc")),
        with(Signer::secret("another secret, which is for HS512 alone, not").jwk("512"), "alg", json!("HS512")),
        with(Signer::p256().jwk("wrap"), "key_ops", json!(["wrapKey"])),
        with(rsa.jwk("pss"), "alg", json!("PS256")),
        with(ec.jwk("odd"), "crv", json!("secp256k1")),
        with(ec.jwk("new"), "alg", json!("ES256K")),
    ] });
    let keys = verifier(JwtKey::from_jwks(&set.to_string()).unwrap());
    let header = |algorithm: &str, id: &str| json!({ "alg": algorithm, "kid": id });
    let n = rsa.jwk("k")["n"].as_str().unwrap().to_owned();
    for (signer, header, found) in [
        (&rsa, header("RS256", "k"), Ok(())),
        (&ec, header("ES256", "k"), Ok(())),
        (&other, header("ES256", "k"), Ok(())),
        (&Signer::secret(SECRET), header("HS256", "k"), Ok(())),
        (&Signer::secret(SECRET), algorithm("HS256"), Ok(())),
        // The public parts of the keys beside it as the secret.
        (&Signer::secret(&n), header("HS256", "k"), Err(Rejection::Signature)),
        (&Signer::Secret(URL_SAFE_NO_PAD.decode(&n).unwrap()), header("HS256", "k"), Err(Rejection::Signature)),
        (
            &Signer::secret("another secret, which is not for signatures"),
            header("HS256", "enc"),
            Err(Rejection::UnknownKey),
        ),
        (&Signer::secret("another secret, which is not for signatures"), algorithm("HS256"), Err(Rejection::Signature)),
        (
            &Signer::secret("another secret, which is for HS512 alone, not"),
            header("HS256", "512"),
            Err(Rejection::UnknownKey),
        ),
        (&rsa, header("RS256", "pss"), Err(Rejection::UnknownKey)),
        (&ec, header("ES256", "odd"), Err(Rejection::UnknownKey)),
        (&ec, header("ES256", "new"), Err(Rejection::UnknownKey)),
        (&rsa, header("ES256", "k"), Err(Rejection::Signature)),
        (&ec, header("EdDSA", "k"), Err(Rejection::Algorithm)),
    ] {
        assert_eq!(verify(&keys, &signer.token(&header, &json!({}))), found.map(|()| None), "{header}");
    }
}

#[test]
fn claims_of_a_signed_token_are_kept_to() {
    let rules = |issuer: Option<&str>, audience: Option<&str>| {
        let keys = vec![JwtKey::from_secret(SECRET).unwrap()];
        let rules = JwtRules { keys, issuer: issuer.map(str::to_owned), audience: audience.map(str::to_owned) };
        Verifier::new(rules, Times { max_age: None, leeway: 10 })
    };
    let (any, issuer, audience) = (rules(None, None), rules(Some("us"), None), rules(None, Some("bells")));
    for (rules, claims, found) in [
        (&any, json!({ "exp": NOW + 1, "nbf": NOW - 1, "iss": "anybody" }), Ok(())),
        (&any, json!({ "exp": NOW - 9 }), Ok(())),
        (&any, json!({ "exp": NOW - 10 }), Err(Rejection::Expired)),
        (&any, json!({ "exp": "yesterday" }), Err(Rejection::Claim("exp, nbf, ctime or iat is no time"))),
        (&any, json!({ "nbf": NOW + 11 }), Err(Rejection::NotYet)),
        (&any, json!({ "id": "a\nb" }), Err(Rejection::Claim("id is no name"))),
        (&any, json!([]), Err(NO_OBJECT)),
        (&any, json!("text"), Err(NO_OBJECT)),
        (&any, json!({ "aud": "bells" }), Err(Rejection::Audience)),
        (&any, json!({ "aud": [] }), Err(Rejection::Audience)),
        (&any, json!({ "aud": 5 }), Err(Rejection::Audience)),
        (&any, json!({ "aud": [5] }), Err(Rejection::Audience)),
        (&any, json!({ "aud": { "0": "bells" } }), Err(Rejection::Audience)),
        (&any, json!({ "aud": null }), Ok(())),
        (&issuer, json!({ "iss": "us" }), Ok(())),
        (&issuer, json!({ "iss": "them" }), Err(Rejection::Issuer)),
        (&issuer, json!({ "iss": 5 }), Err(Rejection::Issuer)),
        (&issuer, json!({}), Err(Rejection::Issuer)),
        (&audience, json!({ "aud": "bells" }), Ok(())),
        (&audience, json!({ "aud": ["x", "bells"] }), Ok(())),
        (&audience, json!({ "aud": ["x"] }), Err(Rejection::Audience)),
        (&audience, json!({ "aud": 5 }), Err(Rejection::Audience)),
        (&audience, json!({}), Err(Rejection::Audience)),
    ] {
        let token = Signer::secret(SECRET).token(&algorithm("HS256"), &claims);
        assert_eq!(verify(rules, &token), found.map(|()| None), "{claims}");
    }
    let token = Signer::secret(SECRET).token_of(&algorithm("HS256").to_string(), "{\"id\":");
    assert_eq!(verify(&any, &token), Err(NO_OBJECT));
}

#[test]
fn both_forms_are_told_apart_and_take_the_same_claims() {
    let claims = json!({ "id": 7, "code": "room", "exp": NOW + 60, "channels": ["a"] });
    let signed = Signer::secret(SECRET).token(&algorithm("HS256"), &claims);
    let older = sealed("key", &claims.to_string());
    let jwt = verifier(vec![JwtKey::from_secret(SECRET).unwrap()]);
    let both = jwt.clone().with_triple_des("key").unwrap();
    let triple_des = verifier(Vec::new()).with_triple_des("key").unwrap();
    let at = UNIX_EPOCH + Duration::from_secs(NOW);
    assert_eq!(both.verify(signed.as_bytes(), at), both.verify(older.as_bytes(), at));
    assert_eq!(verify(&both, &signed), Ok(Some("7".to_owned())));
    assert_eq!(verify(&jwt, &older), Err(Rejection::NoKey("no json web token")));
    assert_eq!(verify(&triple_des, &signed), Err(Rejection::NoKey("a json web token")));
    assert_eq!(verify(&both, &sealed("key", r#"{"exp":1}"#)), Err(Rejection::Expired));
    assert!(both.has_keys() && jwt.has_keys() && triple_des.has_keys() && !Verifier::default().has_keys());
}

#[test]
fn what_is_no_token_of_any_form_or_too_long_is_refused_before_it_is_decoded() {
    let both = verifier(vec![JwtKey::from_secret(SECRET).unwrap()]).with_triple_des("key").unwrap();
    for token in [".", "..", "...", "a.b.c", "a.b", "a.b.c.d", "{}.{}.{}", "ї.ї.ї"] {
        assert_eq!(verify(&both, token), Err(UNREADABLE), "{token}");
    }
    let padded = |length: usize| {
        let around = Signer::secret(SECRET).token(&algorithm("HS256"), &json!({ "x": "" })).len();
        Signer::secret(SECRET).token(&algorithm("HS256"), &json!({ "x": "x".repeat((length - around) / 4 * 3) }))
    };
    let (fits, long) = (padded(MAX_TOKEN - 4), padded(MAX_TOKEN + 8));
    assert!(fits.len() <= MAX_TOKEN && long.len() > MAX_TOKEN, "{} {}", fits.len(), long.len());
    assert_eq!(verify(&both, &fits), Ok(None));
    assert_eq!(verify(&both, &long), Err(Rejection::TooLong));
    assert_eq!(verify(&both, &"A".repeat(MAX_TOKEN + 1)), Err(Rejection::TooLong));
}

#[test]
fn what_can_not_be_a_key_is_refused_without_being_shown() {
    assert_eq!(JwtKey::from_secret(&"s".repeat(31)), Err(KeyError::ShortSecret));
    let bare = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n");
    for public in [
        rsa_pem(),
        format!("Bag Attributes\n{}", rsa_pem()),
        bare(&rsa_pem()),
        bare(&rsa_pem()).replace('\n', ""),
        bare(SHORT_RSA),
        bare(&Signer::p256().pem()),
        bare(&Signer::ed25519().pem()),
        Signer::p256().jwk("e").to_string(),
        json!({ "keys": [Signer::Rsa(&RSA_PKCS1_SHA256).jwk("r")] }).to_string(),
    ] {
        assert_eq!(JwtKey::from_secret(&public), Err(KeyError::KeyAsSecret), "{public}");
    }
    assert!(JwtKey::from_secret(&STANDARD.encode([7; 32])).is_ok());
    let two = format!("{}{}", rsa_pem(), Signer::p256().pem());
    for (pem, why) in [
        ("", KeyError::NotPem),
        ("secret", KeyError::NotPem),
        (RSA, KeyError::NotPem),
        (&two, KeyError::NotPem),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", KeyError::NotPem),
        (SHORT_RSA, KeyError::Kind),
        (SECP256K1, KeyError::Kind),
        (&Signer::p384().pem(), KeyError::Kind),
    ] {
        assert_eq!(JwtKey::from_pem(pem), Err(why), "{pem}");
    }
    let modulus = |bytes: Vec<u8>| {
        json!({ "keys": [{ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(bytes), "e": "AQAB" }] }).to_string()
    };
    let many = json!({ "keys": vec![Signer::secret(SECRET).jwk("s"); 65] }).to_string();
    for (set, why) in [
        ("", KeyError::NotJwks),
        ("[]", KeyError::NotJwks),
        (r#"{"keys":{}}"#, KeyError::NotJwks),
        (r#"{"keys":[]}"#, KeyError::NoKeys),
        (r#"{"keys":[{"kty":"oct","k":"AAAA","alg":"HS512"}]}"#, KeyError::NoKeys),
        (r#"{"keys":[7]}"#, KeyError::BadKey(0)),
        (r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, KeyError::BadKey(0)),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#, KeyError::BadKey(0)),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#, KeyError::BadKey(0)),
        (r#"{"keys":[{"kty":"RSA","n":"AAAA","e":"AQAB"}]}"#, KeyError::BadKey(0)),
        // As long as a key has to be with the zeros in front.
        (&modulus([vec![0; 128], vec![0xff; 128]].concat()), KeyError::BadKey(0)),
        (&modulus(vec![0xff; 1025]), KeyError::BadKey(0)),
        (&many, KeyError::ManyKeys),
    ] {
        assert_eq!(JwtKey::from_jwks(set), Err(why), "{set}");
    }
    let keys = verifier(vec![JwtKey::from_secret(SECRET).unwrap()]).with_triple_des("hunter2").unwrap();
    let shown = format!("{keys:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("a secret"), "{shown}");
}
