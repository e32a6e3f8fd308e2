//! A real Prometheus that scrapes nodes, and what it answers.

use super::http::get;
use super::redis::free_port;
use super::{DEADLINE, Node, eventually};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The rules that are shipped.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana/rules.yaml");

/// A Prometheus with the rules, killed when dropped.
pub struct Prometheus {
    server: Child,
    /// Ends it should this process be killed: it waits for the end of a pipe.
    watchdog: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    /// One that scrapes these nodes as the job `carillon` and evaluates the rules, both each second.
    pub async fn scraping(nodes: &[Node]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let targets: Vec<String> = nodes.iter().map(|node| format!("{:?}", node.http().to_string())).collect();
        let configuration = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [{RULES:?}]\n\
             scrape_configs: [{{job_name: carillon, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        fs::write(directory.path().join("prometheus.yml"), configuration).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let server = Command::new("prometheus")
            .current_dir(directory.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus is installed");
        let end = format!("read _; kill -9 {}; rm -rf \"$0\"", server.id());
        let watchdog = Command::new("sh")
            .args(["-c", &end])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { server, watchdog, address, _directory: directory };
        eventually("Prometheus is ready", DEADLINE, async || match get(address, "/-/ready").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        prometheus
    }

    /// What a path of its HTTP API answers with these parameters; an error with its text where that is one.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let answer = get(self.address, &format!("/api/v1/{path}?{query}")).await.map_err(|error| error.to_string())?;
        let mut answer = answer.json();
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// The values that an expression has now, one for each series.
    pub async fn values(&self, expression: &str) -> Result<Vec<f64>, String> {
        let result = self.ask("query", &[("query", expression)]).await?;
        let result = result["result"].as_array().ok_or("no result")?;
        Ok(result.iter().map(|series| series["value"][1].as_str().unwrap().parse().unwrap()).collect())
    }

    /// All rules, as it has read and evaluated them.
    pub async fn rules(&self) -> Vec<Value> {
        let groups = self.ask("rules", &[]).await.unwrap();
        let groups = groups["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The alerts that fire or are about to.
    pub async fn alerts(&self) -> Vec<Value> {
        self.ask("alerts", &[]).await.unwrap()["alerts"].as_array().unwrap().clone()
    }

    /// Their names.
    pub async fn alert_names(&self) -> BTreeSet<String> {
        self.alerts().await.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
