//! The README's tables are what the program says of itself.
//!
//! `UPDATE_README=1 cargo test --test readme` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a surprise is a failure with a backtrace")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::{env, fs};
use support::certificates::Certificates;
use support::http::get;
use support::node::{carillon, finish};
use support::{Node, RedisServer};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// One test writes at a time.
static WRITING: Mutex<()> = Mutex::new(());

/// Compares the block of that name with what should be in it; writes it instead where that is asked for.
fn block_is(name: &str, wanted: &str) {
    let _guard = WRITING.lock().unwrap();
    let readme = fs::read_to_string(README).unwrap();
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = readme.split_once(&begin).expect("the block begins");
    let (found, after) = rest.split_once(&end).expect("the block ends");
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not configuration of the program")]
    let update = env::var("UPDATE_README").is_ok();
    if update {
        fs::write(README, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, wanted, "the block {name} is out of date: UPDATE_README=1 cargo test --test readme");
    }
}

/// The metrics of a node's own families: name, then type and help.
async fn metrics(node: &Node) -> BTreeMap<String, (String, String)> {
    let page = get(node.http(), "/metrics").await.unwrap();
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in page.text().lines() {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(what), Some(name), Some(text)) = (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let entry = found.entry(name.to_owned()).or_default();
        if what == "HELP" { entry.1 = text.to_owned() } else { entry.0 = text.to_owned() }
    }
    found.retain(|name, _| name.starts_with("carillon_"));
    found
}

#[tokio::test]
async fn the_configuration_table_is_what_the_program_prints() {
    let printed = finish(carillon(&["config", "--markdown"], &[])).await;
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    block_is("config", &printed.stdout);
}

#[tokio::test]
async fn the_metrics_table_has_every_metric_of_a_node_with_and_without_redis_and_tls() {
    let redis = RedisServer::start().await;
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let (alone, member) = (Node::start(&[]).await, Node::on(&redis.url()).await);
    let secure = Node::start(&[("TLS_CERT", &certificate), ("TLS_KEY", &key)]).await;
    // Nothing has happened yet: every family is shown from the start.
    let (alone, with_redis, with_tls) = (metrics(&alone).await, metrics(&member).await, metrics(&secure).await);
    let mut all = alone.clone();
    all.extend(with_redis);
    all.extend(with_tls.clone());
    let mut table = String::from("| metric | type | meaning |\n|---|---|---|\n");
    for (name, (kind, help)) in &all {
        let only = match (alone.contains_key(name), with_tls.contains_key(name)) {
            (true, _) => "",
            (false, true) => " With TLS only.",
            (false, false) => " With Redis only.",
        };
        writeln!(table, "| `{name}` | {kind} | {help}{only} |").unwrap();
    }
    block_is("metrics", &table);
}
