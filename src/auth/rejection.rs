//! Why a token is not taken.

/// Why a token is not taken. Texts are for the log: they name what is at fault, and never show the token. Clients are told
/// none of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// It has more than [`MAX_TOKEN`](super::MAX_TOKEN) bytes.
    #[error("token is longer than {} bytes", super::MAX_TOKEN)]
    TooLong,
    /// No key is configured for its form.
    #[error("token is {0}, for which no key is configured")]
    NoKey(&'static str),
    /// It is not what its form asks for.
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    /// Its `alg` is none of the algorithms that the keys are for.
    #[error("token has an algorithm that no key is for")]
    Algorithm,
    /// It names a key (`kid`) that there is none of.
    #[error("token names an unknown key")]
    UnknownKey,
    /// It was not signed, or not encrypted, with a key that is configured, or changed afterwards.
    #[error("token was made with another key or changed afterwards")]
    Signature,
    /// A claim is none that it can be.
    #[error("token has a claim that can't be: {0}")]
    Claim(&'static str),
    /// It comes from another issuer.
    #[error("token is from another issuer")]
    Issuer,
    /// It is for another audience.
    #[error("token is for another audience")]
    Audience,
    /// Its time is over (`exp`, or older than may be).
    #[error("token has expired")]
    Expired,
    /// Its time has not come (`nbf`), or it was issued in the future.
    #[error("token is not valid yet")]
    NotYet,
}

impl Rejection {
    /// What [`label`](Self::label) can be.
    pub const LABELS: [&str; 11] = [
        "too_long",
        "no_key",
        "malformed",
        "algorithm",
        "unknown_key",
        "signature",
        "claim",
        "issuer",
        "audience",
        "expired",
        "not_yet",
    ];

    /// The word for it in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NoKey(_) => "no_key",
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Claim(_) => "claim",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_has_a_label() {
        let all = [
            Rejection::TooLong,
            Rejection::NoKey("x"),
            Rejection::Malformed("x"),
            Rejection::Algorithm,
            Rejection::UnknownKey,
            Rejection::Signature,
            Rejection::Claim("x"),
            Rejection::Issuer,
            Rejection::Audience,
            Rejection::Expired,
            Rejection::NotYet,
        ];
        assert_eq!(all.each_ref().map(Rejection::label), Rejection::LABELS);
    }
}
