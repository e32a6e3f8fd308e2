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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, shown) in [("", ""), ("їжа", "їжа"), ("їжак", "їжа…")] {
            assert_eq!(beginning(text, 3), shown);
        }
    }
}
