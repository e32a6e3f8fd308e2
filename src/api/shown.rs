//! Values that are refused, as they are shown to whoever sent them.

/// How many characters are shown.
const SHOWN: usize = 60;

/// The beginning of a value, in quotes, what can't be seen escaped.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("'{}…'", text[..end].escape_debug()),
        None => format!("'{}'", text.escape_debug()),
    }
}
