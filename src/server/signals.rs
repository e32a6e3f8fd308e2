//! What the system tells a process, as orders to its node.

use crate::operator::Order;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Passes signals on as orders for as long as this is there: SIGTERM and SIGINT stop, a second one at once; with `reloads`, SIGHUP
/// has the configuration read again.
///
/// # Errors
/// Signals can't be received.
pub(super) fn pass_on(orders: &mpsc::Sender<Order>, reloads: bool) -> io::Result<JoinSet<()>> {
    let kinds: [(SignalKind, fn() -> Order); 3] = [
        (SignalKind::terminate(), || Order::Terminate),
        (SignalKind::interrupt(), || Order::Terminate),
        (SignalKind::hangup(), || Order::Reload(None)),
    ];
    let mut passing = JoinSet::new();
    for (kind, order) in kinds.into_iter().take(if reloads { 3 } else { 2 }) {
        let (mut signals, orders) = (signal(kind)?, orders.clone());
        passing.spawn(async move {
            while signals.recv().await.is_some() {
                if orders.send(order()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(passing)
}
