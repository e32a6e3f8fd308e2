//! Nodes reach a Redis that speaks TLS alone, and only one that they can trust.

mod support;

use support::certificates::Certificates;
use support::redis::free_port;
use support::{DEADLINE, Listener, Node, RedisServer, eventually};

/// A Redis with a password and a TLS port, and that port's number.
async fn redis_with_tls(certificates: &Certificates) -> (RedisServer, u16) {
    let port = free_port();
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let tls_port = port.to_string();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificates.path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    server.cli(&["ACL", "SETUSER", "nodes", "on", ">a/secret", "~*", "&*", "+@all"]).await;
    (server, port)
}

#[tokio::test]
async fn a_push_crosses_between_nodes_over_tls_with_user_and_password() {
    let certificates = Certificates::new();
    let (_redis, port) = redis_with_tls(&certificates).await;
    let url = format!("rediss://nodes:a%2Fsecret@localhost:{port}");
    let ca = certificates.path("ca.pem");
    let environment = [("REDIS_URL", url.as_str()), ("REDIS_CA", ca.as_str())];
    let (a, b) = (Node::start(&environment).await, Node::start(&environment).await);
    let mut listener = Listener::connect(b.ws(), "/?channel[]=c").await;
    a.api().push("c", "over tls").await.unwrap();
    listener.hears_text("over tls").await;
    assert_eq!(a.api().count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_redis_that_can_not_be_trusted_is_not_used_and_the_reason_is_told_without_the_password() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let (_redis, port) = redis_with_tls(&certificates).await;
    let url = format!("rediss://nodes:a%2Fsecret@localhost:{port}");
    let ca = others.path("ca.pem");
    let mut node = Node::spawn(&[("REDIS_URL", url.as_str()), ("REDIS_CA", ca.as_str())]);
    node.listening().await;
    eventually("the log names the certificate", DEADLINE, async || {
        node.log()
            .iter()
            .any(|line| line.to_lowercase().contains("certificate"))
            .then_some(())
            .ok_or_else(|| node.log().join("\n"))
    })
    .await;
    assert!(!node.api().is_ready().await);
    assert!(!node.log().iter().any(|line| line.contains("secret")), "{:?}", node.log());
}
