//! Which program this is.

/// The version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with `-dirty` behind it where its sources had been changed; `None` where the build had
/// neither git nor `CARILLON_COMMIT` to tell. See `build.rs`.
pub const COMMIT: Option<&str> = match env!("CARILLON_COMMIT") {
    commit if commit.is_empty() => None,
    commit => Some(commit),
};
