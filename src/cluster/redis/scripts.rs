//! The Lua scripts: every change that must happen at once or not at all. Each says in its file what it takes and returns.
//!
//! Those that keep leases, write deaths down and remove what is dead are let through by a Redis that is full
//! (`allow-oom`): otherwise its nodes would take each other for dead, and nothing would ever be freed. What they add is small.

use std::sync::LazyLock;

/// One script and the name Redis has for it.
#[derive(Debug)]
pub(super) struct Script {
    /// Its text.
    pub(super) source: &'static str,
    /// SHA-1 of its text, in hex, for `EVALSHA`.
    sha: LazyLock<String>,
}

impl Script {
    pub(super) fn sha(&self) -> &str {
        &self.sha
    }
}

macro_rules! scripts {
    ($($constant:ident = $file:literal;)*) => {
        $(
            pub(super) static $constant: Script = Script {
                source: include_str!(concat!("scripts/", $file, ".lua")),
                sha: LazyLock::new(|| fred::util::sha1_hash(include_str!(concat!("scripts/", $file, ".lua")))),
            };
        )*
        /// All of them, to be loaded into every server that a client connects to.
        pub(super) static ALL: &[&Script] = &[$(&$constant),*];
    };
}

scripts! {
    BATCH = "batch";
    CHECK = "check";
    CLAIM = "claim";
    ANNOUNCE = "announce";
    ENLIST = "enlist";
    RENEW = "renew";
    BURY = "bury";
    TAKE = "take";
    RESIGN = "resign";
    OVER = "over";
    ESTATE = "estate";
    HOLD = "hold";
    REAPED = "reaped";
    TO_CONNECTION = "to_connection";
    PAGE = "page";
    GATHER = "gather";
    OCCUPY = "occupy";
    FENCE = "fence";
    CLOSES = "closes";
    OWE = "owe";
    NEXT = "next";
    TAKEN = "taken";
    AGAIN = "again";
}
