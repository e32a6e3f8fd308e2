//! The device socket's file: its mode, whose it is, and when it is removed.

mod support;

use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use support::device::{Backend, Place, device, node, send, to_all};
use support::node::{carillon, finish};

#[tokio::test]
async fn the_file_has_its_mode_and_is_removed_at_the_end() {
    for (mode, bits) in [("", 0o660), ("0600", 0o600), ("666", 0o666)] {
        let place = Place::new();
        let mut node = node(&place, &[("UNIX_SOCKET_MODE", mode)]).await;
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o7777, bits);
        let mut idle = Backend::connect(&place.path()).await;
        assert_eq!(idle.ask("{}").await, "OK");
        node.terminate();
        assert_eq!(idle.rest().await, "");
        assert_eq!(node.ended().await.code(), Some(0));
        assert!(!place.path().exists());
    }
    let place = Place::new();
    let mut node = node(&place, &[("DRAIN_PERIOD", "1h")]).await;
    let _listener = device(&node, "/").await;
    node.terminate();
    // Backends may push while clients are being closed.
    assert_eq!(send(&place.path(), to_all("still here")).await, "OK");
    node.signal(Signal::TERM);
    node.ended().await;
    assert!(!place.path().exists(), "stopped at once, it is removed all the same");
}

#[tokio::test]
async fn a_file_that_was_left_is_replaced_and_one_in_use_is_not() {
    let place = Place::new();
    let mut killed = node(&place, &[]).await;
    killed.kill();
    assert!(place.path().exists());
    let node = node(&place, &[]).await;
    let (mut listener, _) = device(&node, "/").await;

    let path = place.text();
    let second = finish(carillon(&[], &[("UNIX_SOCKET", &path), ("WS_PORT", "0"), ("HTTP_PORT", "0")])).await;
    let said = second.stderr + &second.stdout;
    assert!(second.code == 1 && said.contains(&path) && said.contains("listens there already"), "{said}");
    assert_eq!(send(&place.path(), to_all("hello")).await, "OK");
    listener.hears_text("\"hello\"").await;
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let place = Place::new();
    let path = place.text();
    let environment = [("UNIX_SOCKET", path.as_str()), ("WS_PORT", "0"), ("HTTP_PORT", "0")];
    fs::write(place.path(), "precious").unwrap();
    let finished = finish(carillon(&[], &environment)).await;
    let said = finished.stderr + &finished.stdout;
    assert!(finished.code == 1 && said.contains(&path) && said.contains("not a socket"), "{said}");
    assert_eq!(fs::read_to_string(place.path()).unwrap(), "precious");
    fs::remove_file(place.path()).unwrap();

    // Somebody else's, made in the place of a node's own, outlives the node.
    let mut node = node(&place, &[]).await;
    fs::remove_file(place.path()).unwrap();
    let _other = UnixListener::bind(place.path()).unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o600)).unwrap();
    node.terminate();
    assert_eq!(node.ended().await.code(), Some(0));
    assert!(place.path().exists());

    let nowhere = place.path().join("nowhere/push.sock");
    let environment = [("UNIX_SOCKET", nowhere.to_str().unwrap()), ("WS_PORT", "0"), ("HTTP_PORT", "0")];
    let finished = finish(carillon(&[], &environment)).await;
    let said = finished.stderr + &finished.stdout;
    assert!(finished.code == 1 && said.contains("nowhere/push.sock"), "{said}");
}
