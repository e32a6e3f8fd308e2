//! What only a cluster over Redis can go through.

use crate::node::{Client, Node, PATIENCE, channel, config, until};
use crate::recorder::Recorder;
use crate::redis::RedisServer;
use carillon::cluster::redis::RedisConfig;
use carillon::cluster::{ChannelEvents, Details, Owed};
use carillon::hub::Opening;
use carillon::model::{Audience, HexId};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, timeout};

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

/// Connections without sockets, each in channel `all` and in one of its own; all of them owe a close.
async fn fill(node: &Node, connections: usize) {
    for number in 0..connections {
        let audiences = vec![channel("all"), channel(&format!("own {number}"))];
        let opening = Opening { details: Details::owing_close(OWING).into(), audiences, ..Opening::default() };
        node.hub.open(opening, |_| Vec::new()).unwrap();
    }
    timeout(PATIENCE, node.cluster.settle(&[])).await.expect("settles").unwrap();
}

/// Has Redis write down what takes it longer than five milliseconds.
async fn watch_for_slow_commands(server: &RedisServer) {
    server.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "5000"]).await;
    server.cli(&["SLOWLOG", "RESET"]).await;
}

/// Says how many scripts took Redis longer than that: on a busy machine some do for no fault of theirs.
async fn tell_slow_scripts(server: &RedisServer) {
    let slow = server.cli(&["SLOWLOG", "GET", "1000"]).await;
    let commands = server.cli(&["INFO", "commandstats"]).await;
    let all = commands.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
    eprintln!("slower than 5 ms: {} scripts of {all}", slow.matches("EVALSHA").count());
}

/// Waits until so many channels of [`fill`] are held, by whomever.
async fn are_held(server: &RedisServer, config: &RedisConfig, channels: usize) {
    let pattern = format!("{}{{b*}}:h:own *", config.prefix);
    until("all channels are held", || async {
        server.cli(&["--raw", "EVAL", "return #redis.call('KEYS', ARGV[1])", "0", &pattern]).await
            == channels.to_string()
    })
    .await;
}

/// Has a node register anew, and waits until nothing is left of its old registration.
async fn registers_anew(node: &Node, server: &RedisServer, config: &RedisConfig) {
    let [leases, reaping] = ["leases", "reaping"].map(|what| format!("{}{{nodes}}:{what}", config.prefix));
    let of_node = format!("{}:", node.seq());
    let registrations = || async {
        let all = server.cli(&["--raw", "HKEYS", &leases]).await;
        all.lines().filter(|line| line.starts_with(&of_node)).map(str::to_owned).collect::<Vec<_>>()
    };
    let old = registrations().await.remove(0);
    server.cli(&["HDEL", &leases, &old]).await;
    until("it has registered anew", || async { registrations().await.first().is_some_and(|new| *new != old) }).await;
    until("its old registration is reaped", || async {
        let all = server.cli(&["--raw", "ZRANGE", &reaping, "0", "-1"]).await;
        let keys = server
            .cli(&["--raw", "KEYS", &format!("{}{{n{}}}:{}:*", config.prefix, node.seq(), &old[of_node.len()..])])
            .await;
        !all.contains(&old) && keys.is_empty()
    })
    .await;
    node.ready().await;
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
    fill(&node, CHILD_S).await;
    writeln!(std::io::stdout(), "settled").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_another_node_tells_what_the_dead_one_owed() {
    let server = RedisServer::start().await;
    watch_for_slow_commands(&server).await;
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
    are_held(&server, &config, CHILD_S).await;
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    until("everything is told", || async { recorder.closes().len() == CHILD_S && recorder.stories_of(2) == CHILD_S })
        .await;
    recorder.has_only_whole_stories();
    assert_eq!(recorder.story("all"), ["channel_occupied"], "it has a member on the node that stays");
    let details = recorder.closes().into_values().next().unwrap();
    assert!(Details::parse(&details).owes_close);
    assert_eq!(Details::parse(&details).profile, "channel");
    tell_slow_scripts(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_registers_anew_has_nothing_to_tell() {
    let server = RedisServer::start().await;
    let config = hasty(&server);
    let recorder = Recorder::new();
    let (a, _b) = recorder.two(config.clone()).await;
    let client = owing_close(&a, &[channel("news")]).await;
    recorder.comes_to("news", &["channel_occupied"]).await;
    for _ in 0..2 {
        registers_anew(&a, &server, &config).await;
    }
    assert_eq!(recorder.story("news"), ["channel_occupied"]);
    // A node that lives tells of its connections' ends itself.
    a.hub.close(client.id, 1000, "");
    recorder.comes_to("news", &["channel_occupied", "channel_vacated"]).await;
    registers_anew(&a, &server, &config).await;
    assert!(recorder.closes().is_empty(), "{recorder:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_owe_a_close_and_were_there_to_the_end_are_told() {
    let server = RedisServer::start().await;
    let recorder = Recorder::new();
    let (a, _b) = recorder.two(hasty(&server)).await;
    let (over, there) = (owing_close(&a, &[]).await, owing_close(&a, &[channel("news")]).await);
    let _owes_nothing = a.connect(&[channel("news")]).await;
    recorder.comes_to("news", &["channel_occupied"]).await;
    a.hub.close(over.id, 1000, "");
    a.cluster.settle(&[]).await.unwrap();
    let (cluster, id) = (a.cluster.node_id(), there.id);
    drop(a);
    until("the close is told", || async { !recorder.closes().is_empty() }).await;
    recorder.comes_to("news", &["channel_occupied", "channel_vacated"]).await;
    assert_eq!(recorder.closes().into_keys().collect::<Vec<_>>(), [id]);
    assert!(recorder.ids().contains(&Owed::close_id(HexId::new(cluster.tag(), id))));
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_of_one_bucket_are_told_several_at_once_and_one_that_is_refused_holds_nobody_up() {
    let server = RedisServer::start().await;
    let recorder = Recorder::new();
    let (a, _b) = recorder.two(RedisConfig { redeliver_after: Duration::from_secs(60), ..hasty(&server) }).await;
    // Every 64th connection's close waits in the same place.
    let mut all = Vec::new();
    for number in 0..64 * 30 {
        let details = if number % 64 == 0 { Details::owing_close(OWING) } else { OWING.to_owned() };
        let id = a.hub.open(Opening { details: details.into(), ..Opening::default() }, |_| Vec::new()).unwrap();
        all.extend((number % 64 == 0).then_some(id));
    }
    timeout(PATIENCE, a.cluster.settle(&[])).await.expect("settles").unwrap();
    recorder.takes(Duration::from_millis(50));
    recorder.refuse_next(3);
    drop(a);
    until("all are told", || async { recorder.closes().into_keys().collect::<Vec<_>>() == all }).await;
    assert!(recorder.most_at_once() > 1, "one at a time");
    assert_eq!(recorder.refused(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_by_the_node_that_decides_is_told_by_one_that_wants_none_of_it() {
    let server = RedisServer::start().await;
    let config = hasty(&server);
    let (old, new) = (Recorder::new(), Recorder::new());
    // As while the nodes are restarted one by one to be told of more.
    old.wants(ChannelEvents::default());
    let _old = old.node(config.clone()).await;
    new.wants(ChannelEvents { occupied: true, vacated: false });
    let node = new.node(config).await;
    new.refuse_next(usize::MAX);
    let client = node.connect(&[channel("news")]).await;
    until("it is told", || async { old.story("news") == ["channel_occupied"] }).await;
    node.hub.close(client.id, 1000, "");
    let _again = node.connect(&[channel("news")]).await;
    until("it is told again", || async { old.story("news") == ["channel_occupied"; 2] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_does_not_get_rid_of_another_one_tells() {
    let server = RedisServer::start().await;
    let config = hasty(&server);
    let (silent, listening) = (Recorder::new(), Recorder::new());
    silent.hang(true);
    let a = silent.node(config.clone()).await;
    let client = a.connect(&[channel("news")]).await;
    let _b = listening.node(config).await;
    listening.comes_to("news", &["channel_occupied"]).await;
    a.hub.close(client.id, 1000, "");
    listening.comes_to("news", &["channel_occupied", "channel_vacated"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_in_its_hands_when_it_leaves_another_one_tells_at_once() {
    let server = RedisServer::start().await;
    // Nobody takes over by waiting for long enough.
    let config = RedisConfig { redeliver_after: Duration::from_secs(600), ..config(server.url()) };
    let (refusing, listening) = (Recorder::new(), Recorder::new());
    refusing.refuse_next(usize::MAX);
    let a = refusing.node(config.clone()).await;
    let _client = a.open(&[channel("news")]).await;
    until("it is offered", || async { refusing.refused() > 0 }).await;
    let _b = listening.node(config).await;
    a.cluster.leave().await;
    listening.comes_to("news", &["channel_occupied", "channel_vacated"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_redis_comes_back_empty_only_what_has_changed_is_told() {
    let mut server = RedisServer::start().await;
    let recorder = Recorder::new();
    let (a, b) = recorder.two(config(server.url())).await;
    let [stays, shared, left] = ["stays", "shared", "left"].map(channel);
    let _first = a.connect(&[stays, shared.clone()]).await;
    let _second = b.connect(std::slice::from_ref(&shared)).await;
    let leaves = a.connect(&[shared, left]).await;
    for channel in ["stays", "shared", "left"] {
        recorder.comes_to(channel, &["channel_occupied"]).await;
    }
    server.kill();
    a.hub.close(leaves.id, 1000, "");
    let new = a.open(&[channel("new")]).await;
    server.run_again().await;
    for node in [&a, &b] {
        node.ready().await;
    }
    recorder.comes_to("left", &["channel_occupied", "channel_vacated"]).await;
    recorder.comes_to("new", &["channel_occupied"]).await;
    a.hub.close(new.id, 1000, "");
    recorder.comes_to("new", &["channel_occupied", "channel_vacated"]).await;
    for channel in ["stays", "shared"] {
        assert_eq!(recorder.story(channel), ["channel_occupied"], "{channel}");
    }
    // Emptied while it runs.
    server.cli(&["FLUSHALL"]).await;
    let _newer = a.connect(&[channel("newer")]).await;
    recorder.comes_to("newer", &["channel_occupied"]).await;
    for channel in ["stays", "shared"] {
        assert_eq!(recorder.story(channel), ["channel_occupied"], "{channel}");
    }
    recorder.has_only_whole_stories();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_channels_are_held_by_few_calls() {
    const CHANNELS: usize = 10_000;
    let server = RedisServer::start().await;
    let config = config(server.url());
    let recorder = Recorder::new();
    let node = recorder.node(config.clone()).await;
    watch_for_slow_commands(&server).await;
    let calls = || async {
        let commands = server.cli(&["INFO", "commandstats"]).await;
        let line = commands.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap().to_owned();
        line.split(['=', ',']).nth(1).unwrap().parse::<usize>().unwrap()
    };
    let (before, started) = (calls().await, Instant::now());
    fill(&node, CHANNELS).await;
    are_held(&server, &config, CHANNELS).await;
    let (made, took) = (calls().await - before, started.elapsed());
    until("all of it is told", || async { recorder.stories_of(1) == CHANNELS + 1 }).await;
    registers_anew(&node, &server, &config).await;
    are_held(&server, &config, CHANNELS).await;
    assert_eq!(recorder.stories_of(1), CHANNELS + 1);
    tell_slow_scripts(&server).await;
    eprintln!("{CHANNELS} channels: {made} scripts in {took:?}");
    // Batches of the registration, lease renewals and looks for some seconds, and what is fetched to be told are among them.
    assert!(made < CHANNELS / 4, "{made} scripts");
}
