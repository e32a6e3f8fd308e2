//! What only a cluster over Redis can go through.

use crate::node::{Client, Node, PATIENCE, channel, config, until};
use crate::recorder::Recorder;
use crate::redis::RedisServer;
use carillon::cluster::redis::RedisConfig;
use carillon::cluster::{Details, Owed};
use carillon::model::Audience;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What the directory keeps of a connection whose close is told, and of one whose isn't.
const OWING: &str = r#"{"profile":"channel"}"#;

/// A configuration in which a death is seen and cleaned up soon.
fn hasty(server: &RedisServer) -> RedisConfig {
    RedisConfig {
        node_lease: Duration::from_secs(2),
        reap_delay: Duration::from_secs(1),
        redeliver_after: Duration::from_millis(1500),
        ..config(server.url())
    }
}

/// A connection in these channels whose close is to be told.
async fn owing_close(node: &Node, channels: &[Audience]) -> Client {
    let client = node.open_with(&Details::owing_close(OWING), channels).await;
    timeout(PATIENCE, node.cluster.settle(channels)).await.expect("settles").unwrap();
    client
}

/// Variables by which this very program, started again, knows that it is to be a node.
const CHILD: [&str; 2] = ["TOLD_REDIS_URL", "TOLD_PREFIX"];

/// How many connections that node has, each in a channel of its own, and all in one.
const CHILD_S: usize = 3000;

/// Not a test of its own: a node in another process, which the next test kills.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "how a test tells another process of its, not configuration")]
    let [Ok(url), Ok(prefix)] = CHILD.map(std::env::var) else { return };
    let config = RedisConfig { url, prefix, ..RedisConfig::default() };
    let recorder = Recorder::new();
    // It decides, and never gets to tell.
    recorder.hang(true);
    let node = recorder.node(config).await;
    let limits = std::iter::repeat_n(Details::owing_close(OWING), CHILD_S);
    for (number, details) in limits.enumerate() {
        let audiences = vec![channel("all"), channel(&format!("own {number}"))];
        let opening = carillon::hub::Opening { details: details.into(), audiences };
        node.hub.open(opening, |_| Vec::new()).unwrap();
    }
    node.cluster.settle(&[]).await.unwrap();
    println!("settled");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_another_node_tells_what_the_dead_one_owed() {
    let server = RedisServer::start().await;
    server.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "5000"]).await;
    let config = RedisConfig { reap_delay: Duration::from_secs(5), ..hasty(&server) };
    let recorder = Recorder::new();
    let stays = recorder.node(config.clone()).await;
    let _client = stays.connect(&[channel("all")]).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "on_redis::a_node_that_is_killed", "--nocapture"])
        .envs(CHILD.into_iter().zip([&config.url, &config.prefix]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let settled = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains("settled") {
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                return false;
            }
        }
        true
    });
    assert!(settled.await.unwrap(), "the node in the other process ended by itself");
    until("all its channels are held", || async {
        let held = server
            .cli(&[
                "--raw",
                "EVAL",
                "return #redis.call('KEYS', ARGV[1])",
                "0",
                &format!("{}*}}:h:own*", config.prefix),
            ])
            .await;
        held == CHILD_S.to_string()
    })
    .await;
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    let total = CHILD_S;
    until("everything is told", || async {
        let vacated = (0..total).filter(|number| recorder.story(&format!("own {number}")).len() == 2).count();
        recorder.closes().len() == total && vacated == total
    })
    .await;
    recorder.has_only_whole_stories();
    assert_eq!(recorder.story("all"), ["channel_occupied"], "it has a member on the node that stays");
    let details = recorder.closes().into_values().next().unwrap();
    assert!(Details::parse(&details).owes_close);
    assert_eq!(Details::parse(&details).profile, "channel");
    let slow = server.cli(&["SLOWLOG", "GET", "10"]).await;
    assert!(!slow.contains("EVAL"), "{slow}");
}
