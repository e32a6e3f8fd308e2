//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Raises what is allowed to what may be allowed, as the soft limit is often 1,024 for the sake of programs that use
/// select(2). The limit afterwards; `None` where there is none.
///
/// # Errors
/// Where the system doesn't let it be raised.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}
