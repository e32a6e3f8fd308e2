//! Texts of strangers, as messages show them.

use std::borrow::Cow;

/// The first so many characters of a text, with a `…` behind them where it is longer: a value may have any size, a line of log
/// or an answer must not.
pub fn beginning(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Characters of the longest part of a path that is taken for a name; keys and secrets in base64 are longer.
const LONGEST_PART: usize = 40;

/// A value that is to be a path, as messages show it. Secrets end up in the wrong variable: what does not begin like a path
/// (`/`, `./`, `../`), or could be base64 or JSON all the same, is not shown.
pub fn shown_path(value: &str) -> String {
    let is_name = |part: &str| part.len() <= LONGEST_PART || part.contains('.');
    let begins = ["/", "./", "../"].iter().any(|begin| value.starts_with(begin));
    let plain = !value.contains(['+', '=', '{', '"']) && !value.contains(char::is_control);
    if begins && plain && value.split('/').all(is_name) {
        format!("{:?}", beginning(value, 200))
    } else {
        "(not shown, as it may be a key: of paths those are shown that begin with / or ./)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_and_what_may_be_a_key_is_not() {
        for shown in
            ["/etc/carillon/jwks.json", "./key.pem", "../keys/a b", "/run/secrets/push.example.org.the-private-key.pem"]
        {
            assert_eq!(shown_path(shown), format!("{shown:?}"));
        }
        for hidden in [
            "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDJNQ7C6PRLWjUTeGRn0K5LNexVtQjH",
            "/4GkQ9J2mVbqkz9eFqJxX8yO0cX2n3Yl7R1sTtUuVvWwXxYyZzAaBbCc",
            "/4GkQ9J2mVbqkz9eFqJxX8yO0cX2n3Yl7R1sTtUuVvU=",
            "/a+b",
            "/a\nb",
            "{\"keys\":[]}",
            "hunter2",
            "",
        ] {
            assert!(shown_path(hidden).starts_with("(not shown"), "{hidden}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, shown) in [("", ""), ("їжа", "їжа"), ("їжак", "їжа…")] {
            assert_eq!(beginning(text, 3), shown);
        }
    }
}
