//! The dashboard, the rules and `/metrics` before a real Prometheus that scrapes real nodes under every kind of load.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::backend::{Reply, SECRET};
use support::certificates::Certificates;
use support::device::{self, Place};
use support::http::{Http, get, request};
use support::prometheus::Prometheus;
use support::promql::spoken;
use support::raw::{Raw, handshake_with};
use support::tokens::JWT_SECRET;
use support::{Backend, DEADLINE, Events, Listener, Node, RedisServer, eventually};
use tokio::task::JoinHandle;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What Grafana puts in the place of the dashboard's variables here.
const VARIABLES: [(&str, &str); 5] =
    [("$__rate_interval", "10s"), ("$__range", "5m"), ("$namespace", ".*"), ("$job", "carillon"), ("$instance", ".*")];

/// Alerts that the load itself brings about: clients are refused without end, and a node stops and takes its time.
const PROVOKED: [&str; 2] = ["CarillonClientsTurnedAway", "CarillonDrainTakesLong"];

/// Alerts that a busy machine brings about, on which everything takes its time.
const OF_A_BUSY_MACHINE: [&str; 4] =
    ["CarillonRedisSlow", "CarillonPushesLate", "CarillonWebhookSlow", "CarillonMembershipsWait"];

/// For what hundreds of questions to Prometheus have to come true, beside a load that takes the machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The title and the expression of each query on the dashboard.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut panels: Vec<&Value> = dashboard["panels"].as_array().unwrap().iter().collect();
    while let Some(panel) = panels.pop() {
        panels.extend(panel["panels"].as_array().into_iter().flatten());
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = format!("{} ({})", panel["title"].as_str().unwrap(), target["refId"].as_str().unwrap());
            all.push((title, target["expr"].as_str().unwrap().to_owned()));
        }
    }
    all
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(Path::new(ROOT).join("grafana/dashboard.json")).unwrap()).unwrap()
}

/// An expression with values for its variables.
fn with_variables(expression: &str) -> String {
    VARIABLES.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Three nodes that use everything there is, and what they use.
struct Cluster {
    nodes: Vec<Node>,
    redis: RedisServer,
    application: Backend,
    certificates: Certificates,
    socket: Place,
}

impl Cluster {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let application = Backend::start(|event| match event["event"].as_str() {
            Some("message") => Reply::Json(json!({ "operations": [{ "do": "join", "group": "speakers" }] })),
            _ => Reply::Status(204),
        })
        .await;
        let (certificates, socket) = (Certificates::new(), Place::new());
        let (redis_url, unix_socket) = (redis.url(), socket.text());
        let common = [
            ("REDIS_URL", redis_url.as_str()),
            ("WEBHOOK_URL", application.url()),
            ("WEBHOOK_SECRET", SECRET),
            ("WEBHOOK_EVENTS", "open,message,close,channel_occupied,channel_vacated"),
            ("CLIENT_PROFILES", "/=channel,/device=device"),
            ("HEARTBEAT_INTERVAL", "500ms"),
            ("MAX_UNSENT", "64KiB"),
            // A node that is told to stop shows what that looks like for as long as the test lasts.
            ("DRAIN_DELAY", "10m"),
            JWT_SECRET,
        ];
        let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
        let mut secure = common.to_vec();
        secure.extend([("TLS_CERT", certificate.as_str()), ("TLS_KEY", key.as_str())]);
        let mut local = common.to_vec();
        local.push(("UNIX_SOCKET", &unix_socket));
        let nodes = vec![Node::start(&secure).await, Node::start(&local).await, Node::start(&common).await];
        Self { nodes, redis, application, certificates, socket }
    }

    /// Clients, pushes by every interface, messages, refusals, one after the other and again until it is aborted.
    fn load(&self) -> JoinHandle<()> {
        let [secure, local, third] = [0, 1, 2].map(|index| (self.nodes[index].ws(), self.nodes[index].http()));
        let (socket, tls) = (self.socket.path(), self.certificates.client(rustls::ALL_VERSIONS));
        tokio::spawn(async move {
            let mut staying = Listener::crowd(local.0, "/?channel[]=news", 10).await;
            staying.extend(Listener::crowd(third.0, "/?channel[]=news", 10).await);
            for round in 0_u64.. {
                // One after the other, so that a round has some of everything whatever has become of a node meanwhile.
                let _ = Listener::try_connect_tls(secure.0, "/?channel[]=news", tls.clone()).await;
                if let Ok(mut guest) = Listener::try_connect(local.0, &format!("/?channel[]=room{round}")).await {
                    guest.say("hello").await;
                }
                let _ = Listener::try_connect(local.0, "/?auth=nonsense").await;
                let _ = get(local.0, "/").await;
                for node in [secure, local] {
                    let _ = support::api::Api(node.1).push("news", "by the actions API").await;
                    let _ = support::api::Api(node.1).push("nobody", "heard by nobody").await;
                }
                let _ = support::api::Api(secure.1).response("action=push&to=all&message=all").await;
                let _ =
                    Events(secure.1).post("", r#"{"event":"broadcast","broadcast":{"msg":"by the events API"}}"#).await;
                if let Ok(mut backend) = device::Backend::try_connect(&socket).await {
                    backend.ask(device::to_all("by the device socket")).await;
                    backend.ask(r#"{"action":"nonsense"}"#).await;
                }
                for listener in &mut staying {
                    listener.is_gone().await;
                }
            }
        })
    }

    /// A client that reads nothing, until it is closed for that.
    async fn slow_consumer(&self) {
        let node = &self.nodes[1];
        let mut raw = Raw::connect(node.ws()).await;
        raw.send(handshake_with("/?channel[]=slow", "").as_bytes()).await;
        raw.until(b"\r\n\r\n").await;
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("message={}", "x".repeat(500_000));
        let push = request("POST", "/?action=push&to=channel&channel=slow", &form, body.as_bytes());
        let mut http = Http::connect(node.http()).await.unwrap();
        eventually("the slow consumer is closed", DEADLINE, async || {
            assert_eq!(http.request(&push).await.unwrap().json()["status"], true);
            let closed = device::metric(node, "carillon_slow_consumers_total").await;
            if closed > 0 { Ok(()) } else { Err("not yet") }
        })
        .await;
    }
}

/// All that Prometheus has to say to the dashboard and the rules while there is load and a node stops.
async fn everything_has_data(prometheus: &Prometheus, rules: &[Value]) {
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 90, "{}", queries.len());
    let mut open: Vec<(String, String)> =
        queries.iter().map(|(title, expression)| (title.clone(), with_variables(expression))).collect();
    for (title, expression) in &open {
        // A cluster that is not there is no fault of a query's.
        let nobody = expression.replace("job=~\"carillon\"", "job=~\"nobody\"");
        let values = prometheus.values(&nobody).await.unwrap_or_else(|error| panic!("{title}: {error}: {nobody}"));
        assert!(values.is_empty() || title.starts_with("Alerts "), "{title}: {values:?}");
    }

    let mut selectors = BTreeSet::new();
    let mut labels = BTreeSet::new();
    let of_rules = rules.iter().map(|rule| rule["query"].as_str().unwrap().to_owned());
    for expression in of_rules.chain(open.iter().map(|(_, expression)| expression.clone())) {
        let spoken = spoken(&expression);
        selectors.extend(spoken.selectors);
        labels.extend(spoken.labels);
    }
    assert!(selectors.len() > 80, "{}", selectors.len());
    open.extend(selectors.into_iter().map(|selector| (format!("selector {selector}"), selector)));

    eventually("every query has data", PATIENCE, async || {
        let mut still = Vec::new();
        for (title, expression) in &open {
            let values = prometheus.values(expression).await;
            let values = values.unwrap_or_else(|error| panic!("{title}: {error}: {expression}"));
            // A share of nothing is no number; one number among several is enough.
            if values.iter().all(|value| value.is_nan()) {
                still.push((title.clone(), expression.clone()));
            }
        }
        open = still;
        if open.is_empty() { Ok(()) } else { Err(format!("{} have none: {open:#?}", open.len())) }
    })
    .await;

    let known = prometheus.ask("labels", &[]).await.unwrap();
    // There is none outside of Kubernetes.
    let missing =
        labels.iter().filter(|label| *label != "namespace" && !known.as_array().unwrap().contains(&json!(label)));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// What the dashboard's variables are chosen from.
async fn variables_have_values(prometheus: &Prometheus, nodes: usize) {
    let dashboard = dashboard();
    for (name, count) in [("namespace", 0), ("job", 1), ("instance", nodes)] {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        let query = list.iter().find(|variable| variable["name"] == name).unwrap()["query"]["query"].as_str().unwrap();
        let (selector, label) =
            query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", ")).unwrap();
        let values =
            prometheus.ask(&format!("label/{label}/values"), &[("match[]", &with_variables(selector))]).await.unwrap();
        assert_eq!(values.as_array().unwrap().len(), count, "{query}: {values}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_data_under_load_and_alerts_stay_calm_until_something_breaks() {
    let mut cluster = Cluster::start().await;
    let prometheus = Prometheus::scraping(&cluster.nodes).await;
    let load = cluster.load();
    cluster.slow_consumer().await;
    let _stays = Listener::connect(cluster.nodes[2].ws(), "/device").await;
    cluster.nodes[2].terminate();

    let rules = eventually("every rule was evaluated", DEADLINE, async || {
        let rules = prometheus.rules().await;
        let bad: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").cloned().collect();
        if bad.is_empty() && rules.len() > 35 { Ok(rules) } else { Err(format!("{bad:#?}")) }
    })
    .await;
    everything_has_data(&prometheus, &rules).await;
    variables_have_values(&prometheus, cluster.nodes.len()).await;
    // A single scrape may come too late, which is over with the next.
    eventually("only the alerts are active that the load brings about", DEADLINE, async || {
        let mut active = prometheus.alert_names().await;
        active.retain(|name| !PROVOKED.contains(&name.as_str()) && !OF_A_BUSY_MACHINE.contains(&name.as_str()));
        if active.is_empty() { Ok(()) } else { Err(format!("{active:?}")) }
    })
    .await;

    load.abort();
    cluster.nodes[1].kill();
    active(&prometheus, &["CarillonNodeDown", "CarillonNodeDied", "CarillonDrainTakesLong"]).await;
    a_node_that_is_gone_is_shown_as_such(&prometheus).await;
    cluster.redis.kill();
    active(&prometheus, &["CarillonRedisAway", "CarillonNoNodeReady"]).await;
    for alert in prometheus.alerts().await {
        for (name, text) in alert["annotations"].as_object().unwrap() {
            let text = text.as_str().unwrap();
            assert!(!text.contains("{{") && !text.contains("error") && !text.contains("  "), "{name}: {text}");
        }
    }
    drop(cluster.application);
}

/// Its own metrics went with it: the dashboard has its state from Prometheus.
async fn a_node_that_is_gone_is_shown_as_such(prometheus: &Prometheus) {
    let queries = queries(&dashboard());
    for title in ["Ready, stopping (A)", "Nodes (B)"] {
        let (_, expression) = queries.iter().find(|(found, _)| found == title).unwrap();
        let expression = with_variables(expression);
        eventually("ready, unreachable and stopping", DEADLINE, async || {
            let mut states = prometheus.values(&expression).await.unwrap();
            states.sort_by(f64::total_cmp);
            support::eventually::same(states, vec![-1.0, 1.0, 2.0])
        })
        .await;
    }
}

/// Waits until these alerts fire or are about to: for the rest of it time has to go by.
async fn active(prometheus: &Prometheus, names: &[&str]) {
    eventually("the alerts are active", DEADLINE, async || {
        let active = prometheus.alert_names().await;
        if names.iter().all(|name| active.contains(*name)) { Ok(()) } else { Err(format!("{active:?}")) }
    })
    .await;
}

/// Runs promtool, which must find no fault.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "promtool {arguments:?}: {said:?}");
}

#[test]
fn what_an_expression_speaks_of_is_found() {
    let expression = r#"sum by (job, reason) (rate(carillon_a_total{x!~"b|c", y=~".*"}[5m])) / on (job) group_left () up or job:b:sum"#;
    let found = spoken(expression);
    let selectors: Vec<&str> = found.selectors.iter().map(String::as_str).collect();
    let of_a = [r#"carillon_a_total{x="b"}"#, r#"carillon_a_total{x="c"}"#];
    assert_eq!(selectors, ["carillon_a_total", of_a[0], of_a[1], "job:b:sum", "up"]);
    assert_eq!(found.labels.iter().map(String::as_str).collect::<Vec<_>>(), ["job", "reason", "x", "y"]);
}

#[test]
fn promtool_finds_no_fault_in_the_rules_and_every_alert_passes_its_tests() {
    promtool(&["check", "config", "grafana/prometheus.yml"], "");
    promtool(&["check", "rules", "grafana/rules.yaml"], "");
    promtool(&["test", "rules", "tests/observability/rules.test.yaml"], "");
}

#[tokio::test]
async fn promtool_finds_no_fault_in_the_metrics_of_a_node_that_uses_everything() {
    let cluster = Cluster::start().await;
    for node in &cluster.nodes {
        promtool(&["check", "metrics"], get(node.http(), "/metrics").await.unwrap().text());
    }
}

#[tokio::test]
async fn a_reload_that_is_refused_shows_until_one_is_taken() {
    let certificates = Certificates::new();
    certificates.write("token", "a token");
    let (certificate, key, token) =
        (certificates.path("server.pem"), certificates.path("server.key"), certificates.path("token"));
    let variables = [("TLS_CERT", certificate.as_str()), ("TLS_KEY", &key), ("HTTP_TOKEN_FILE", &token)];
    let node = &Node::start(&variables).await;
    let shows = async |series: &str, value: u64| {
        eventually(&format!("{series} is {value}"), DEADLINE, async || {
            let found = device::metric(node, series).await;
            if found == value { Ok(()) } else { Err(found) }
        })
        .await;
    };
    let (configuration, pair) = ("carillon_config_last_reload_successful", "carillon_tls_last_reload_successful");
    shows(configuration, 1).await;
    shows(pair, 1).await;
    let good = certificates.read("server.key");
    certificates.write("server.key", "no key");
    certificates.write("token", "");
    node.signal(rustix::process::Signal::HUP);
    shows(configuration, 0).await;
    shows(pair, 0).await;
    certificates.write("server.key", &good);
    certificates.write("token", "another token");
    node.signal(rustix::process::Signal::HUP);
    shows(configuration, 1).await;
    shows(pair, 1).await;
}
