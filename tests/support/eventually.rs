//! Waiting for a condition, never for a time.

use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything that should happen "soon" may take: far beyond what it takes, so that a busy machine fails no test.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks: short beside every deadline, long beside a look.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks again and again until `condition` is `Ok` and gives its value; panics with its last error after `deadline`.
pub async fn eventually<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(why) if Instant::now() >= end => panic!("not within {deadline:?}: {what}; at last: {why}"),
            Err(_) => sleep(BETWEEN_LOOKS).await,
        }
    }
}

/// `Ok` where the two are equal, else an error that shows both; for conditions of [`eventually`].
pub fn same<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}, wanted {wanted:?}")) }
}

/// Does something over and over until `stop` completes: for load and for watching while something else happens.
pub async fn meanwhile(stop: impl Future<Output = ()>, mut act: impl AsyncFnMut()) {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            () = act() => {}
        }
    }
}
