//! Who may use the HTTP interfaces.

use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// A set of accepted tokens; an empty one accepts everybody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// `whole` is one token as it stands (`HTTP_TOKEN`), `list` holds tokens between commas (`TOKEN`), blanks around
    /// them left out. Empty ones are none.
    pub fn new(whole: Option<&str>, list: Option<&str>) -> Self {
        let listed = list.into_iter().flat_map(|list| list.split(',')).map(str::trim);
        let all = whole.into_iter().chain(listed);
        Self(all.filter(|token| !token.is_empty()).map(|token| token.as_bytes().into()).collect())
    }

    /// Whether everybody is accepted.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `presented` is one of them. Takes as long whichever it is and wherever it differs; only its length shows.
    pub fn accept(&self, presented: &[u8]) -> bool {
        let any = self.0.iter().fold(Choice::from(0), |any, token| any | token.ct_eq(presented));
        self.is_open() || any.into()
    }
}

impl fmt::Debug for Tokens {
    /// Shows how many there are, never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// The tokens of the HTTP server, which can be exchanged while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// What opens the APIs.
    pub api: Tokens,
    /// What opens `/metrics`.
    pub metrics: Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_whole_and_others_between_commas_are_accepted() {
        let tokens = Tokens::new(Some("a,b"), Some(" c, d,,"));
        for good in ["a,b", "c", "d"] {
            assert!(tokens.accept(good.as_bytes()), "{good}");
        }
        for bad in ["", "a", "b", "c,", "cc", "C", " c"] {
            assert!(!tokens.accept(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn without_a_token_everybody_is_accepted() {
        for open in [Tokens::new(None, None), Tokens::new(Some(""), Some(" ,"))] {
            assert!(open.is_open() && open.accept(b"") && open.accept(b"x"));
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        assert_eq!(format!("{:?}", Tokens::new(Some("secret"), None)), "Tokens(1)");
    }
}
