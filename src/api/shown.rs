//! Values that are refused, as they are shown to whoever sent them.

use crate::model::beginning;

/// How many characters are shown.
const SHOWN: usize = 60;

/// The beginning of a value, in quotes, what can't be seen escaped.
pub(super) fn shown(text: &[u8]) -> String {
    format!("'{}'", beginning(&String::from_utf8_lossy(text), SHOWN).escape_debug())
}
