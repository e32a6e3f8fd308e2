//! Signing in: keys, rules, and who has to.

use super::parse::Reader;
use super::variables::{Raw, of_profile};
use crate::auth::{ChannelPatterns, JwtKey, JwtRules, Times, Verifier};
use crate::session::profile::Profile;
use crate::session::sign_in::SignIn;
use std::collections::HashMap;

/// Seconds by which clocks may differ, unless that is configured.
const LEEWAY: u64 = 10;

/// Takes what is about signing in out of `raw`; the variables of single profiles are in `values`.
pub(super) fn sign_in(read: &mut Reader, raw: &mut Raw, values: &HashMap<String, String>) -> SignIn {
    let max_age = read.number("AUTH_MAX_AGE", raw.auth_max_age.take(), 0, 0..=u64::from(u32::MAX));
    let times = Times {
        max_age: (max_age > 0).then_some(max_age),
        leeway: read.number("AUTH_LEEWAY", raw.auth_leeway.take(), LEEWAY, 0..=3600),
    };
    let rules = JwtRules { keys: keys(read, raw), issuer: raw.jwt_issuer.take(), audience: raw.jwt_audience.take() };
    let mut verifier = Verifier::new(rules, times);
    if let Some(key) = raw.auth_key.take() {
        match verifier.clone().with_triple_des(&key) {
            Some(with_key) => verifier = with_key,
            None => read.faults.add("AUTH_KEY", "", "a text of at most 24 bytes, which is all that the form uses"),
        }
    }
    let parameter = read.parameter("AUTH_PARAM", raw.auth_param.take(), "auth");
    if ["channel", "device"].contains(&parameter.as_str()) {
        read.faults.add("AUTH_PARAM", &parameter, "another name: this parameter has a meaning of its own");
    }
    SignIn {
        required: required(read, raw.auth_required.take(), values, &verifier),
        private_channels: read.value("PRIVATE_CHANNELS", raw.private_channels.take(), ChannelPatterns::default()),
        verifier,
        parameter,
    }
}

fn keys(read: &mut Reader, raw: &mut Raw) -> Vec<JwtKey> {
    let mut keys = Vec::new();
    let secret = raw.jwt_secret.take().map(|text| ("JWT_SECRET", JwtKey::from_secret(&text)));
    let public = raw.jwt_public_key.take().map(|text| ("JWT_PUBLIC_KEY", JwtKey::from_pem(&text)));
    for (name, key) in [secret, public].into_iter().flatten() {
        match key {
            Ok(key) => keys.push(key),
            Err(error) => read.faults.wrong(name, "", &error.to_string()),
        }
    }
    if let Some(path) = raw.jwt_jwks.take() {
        match std::fs::read_to_string(&path) {
            Ok(text) => match JwtKey::from_jwks(&text) {
                Ok(set) => keys.extend(set),
                Err(error) => read.faults.wrong("JWT_JWKS", &path, &error.to_string()),
            },
            Err(error) => {
                read.faults.add("JWT_JWKS", &path, &format!("the path of a readable file with a jwk set ({error})"));
            }
        }
    }
    keys
}

/// The profiles whose clients need a token: by their own variables, else by the one for all, else `method` once there is a key.
fn required(
    read: &mut Reader,
    for_all: Option<String>,
    values: &HashMap<String, String>,
    verifier: &Verifier,
) -> Vec<Profile> {
    let name = "AUTH_REQUIRED";
    let mut keyless = Vec::new();
    let mut flag = |name: String, text: &str| {
        let set = read.flag(&name, Some(text.to_owned()));
        if set {
            keyless.push((name, text.to_owned()));
        }
        set
    };
    // Read where every profile has an own one as well: a fault is one all the same.
    let for_all = for_all.map(|text| flag(name.to_owned(), &text));
    let mut required = Vec::new();
    for profile in Profile::ALL {
        let own_name = of_profile(name, profile);
        let own = values.get(&own_name).map(|text| flag(own_name, text));
        let default = profile == Profile::Method && verifier.has_keys();
        if own.or(for_all).unwrap_or(default) {
            required.push(profile);
        }
    }
    // With a key that can't be one there is a fault already.
    if !verifier.has_keys() && !read.faults.name_any(&["AUTH_KEY", "JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS"]) {
        for (name, text) in keyless {
            read.faults.add(&name, &text, "true with a key only: AUTH_KEY, JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS");
        }
    }
    required
}
