//! The language that the environment asks for.

/// The locale of messages: the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set and not empty (POSIX, Base
/// Definitions, section 8.2).
pub fn locale() -> Option<String> {
    ["LC_ALL", "LC_MESSAGES", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .map(|value| value.to_string_lossy().into_owned())
}
