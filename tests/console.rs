//! The console over HTTP, as a browser asks for it: the page's parts, who gets figures, and what is in them. What the page
//! does with them is tested in a browser (`tests/console/`).

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use support::http::{Answer, Http, request};
use support::{DEADLINE, Fleet, Listener, Node, RedisServer, eventually};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/console/page");

/// One request on a connection that ends with it.
async fn ask(node: &Node, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("Connection", "close")];
    all.extend_from_slice(headers);
    let mut http = Http::connect(node.http()).await.unwrap();
    http.request(&request(method, target, &all, b"")).await.unwrap()
}

async fn get(node: &Node, target: &str) -> Answer {
    ask(node, "GET", target, &[]).await
}

async fn get_with_token(node: &Node, target: &str, token: &str) -> Answer {
    ask(node, "GET", target, &[("Authorization", &format!("Bearer {token}"))]).await
}

/// The page's files, by their paths below `/console/`.
fn files() -> BTreeMap<String, String> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let mut paths = Vec::new();
    below(Path::new(PAGE), &mut paths);
    let name = |path: &Path| path.strip_prefix(PAGE).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The files of the page whose names end so, one after the other.
fn all_of(ending: &str) -> String {
    files().into_iter().filter(|(name, _)| name.ends_with(ending)).map(|(_, text)| text).collect()
}

#[tokio::test]
async fn every_file_of_the_page_is_served_to_everybody_with_its_type_and_its_policy() {
    let node = Node::start(&[("HTTP_TOKEN", "s3cret")]).await;
    let files = files();
    assert!(files.len() > 10, "{files:?}");
    for (name, text) in &files {
        let answer = get(&node, &format!("/console/{name}")).await;
        assert_eq!((answer.status, answer.text()), (200, text.as_str()), "{name}");
        let wanted = match Path::new(name).extension().unwrap().to_str().unwrap() {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "json" => "application/json",
            "svg" => "image/svg+xml",
            other => panic!("{name}: no media type is known for {other}"),
        };
        assert_eq!(answer.header("content-type"), Some(wanted), "{name}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{name}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{name}");
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|found| found == part), "{name}: {part} is missing in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for scheme in ["http:", "https:", "ws:", "wss:"] {
            assert!(policy.split("connect-src").nth(1).unwrap().contains(scheme), "{policy}");
        }
    }
    assert_eq!(get(&node, "/console/").await.body, files["index.html"].as_bytes());
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let node = Node::start(&[]).await;
    let first = get(&node, "/console/console.js").await;
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    let tag = first.header("etag").unwrap();
    for known in [tag.to_owned(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = ask(&node, "GET", "/console/console.js", &[("If-None-Match", &known)]).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)), "{known}");
    }
    let other = get(&node, "/console/console.css").await.header("etag").unwrap().to_owned();
    assert_eq!(ask(&node, "GET", "/console/console.js", &[("If-None-Match", &other)]).await.status, 200);
}

#[tokio::test]
async fn paths_beside_the_page_are_what_they_should_be() {
    let node = Node::start(&[]).await;
    let moved = get(&node, "/console").await;
    // Relative: right behind a proxy that adds a path of its own as well.
    assert_eq!((moved.status, moved.header("location")), (308, Some("console/")));
    for unknown in ["/console/none.js", "/console/../Cargo.toml", "/console/languages/", "/console//node"] {
        assert_eq!(get(&node, unknown).await.status, 404, "{unknown}");
    }
    let posted = ask(&node, "POST", "/console/node", &[("Content-Length", "0")]).await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    // What names an action is a call of the API, wherever it is sent; and so is what only begins alike.
    assert_eq!(get(&node, "/console/?action=countConnections").await.json()["status"], true);
    assert_eq!(get(&node, "/consoles").await.json()["message"], "action param must be set");
}

#[tokio::test]
async fn figures_need_a_token_of_the_api_in_the_header() {
    let node = Node::start(&[("HTTP_TOKEN", "s3cret"), ("TOKEN", "other")]).await;
    for path in ["/console/node", "/console/nodes"] {
        let query = format!("{path}?token=s3cret");
        for refused in [get(&node, path).await, get(&node, &query).await, get_with_token(&node, path, "wrong").await] {
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
            assert_eq!(refused.header("content-type"), Some("application/json"));
            assert_eq!(refused.json()["error"], "a bearer token of the api is needed");
        }
        for token in ["s3cret", "other"] {
            let taken = get_with_token(&node, path, token).await;
            assert_eq!((taken.status, taken.header("cache-control")), (200, Some("no-store")), "{path} {token}");
        }
    }
}

#[tokio::test]
async fn a_node_tells_its_state_and_counts_what_it_does() {
    let node = Node::start(&[("DRAIN_DELAY", "60s")]).await;
    let before = get(&node, "/console/node").await.json();
    let fields: Vec<&str> = before.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = "id seq version start_time ws_port state reason draining clock_ms connections unsent_bytes pushes \
                  deliveries sent_bytes slow_consumers";
    assert_eq!(fields, wanted.split(' ').filter(|field| !field.is_empty()).collect::<Vec<_>>());
    assert_eq!(before["id"].as_str().unwrap().len(), 32);
    assert_eq!(before["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&before["ws_port"], &before["state"]), (&Value::from(node.ws().port()), &Value::from("ready")));
    assert_eq!((&before["reason"], &before["draining"]), (&Value::Null, &Value::from(false)));
    for counter in ["connections", "unsent_bytes", "pushes", "deliveries", "sent_bytes", "slow_consumers"] {
        assert_eq!(before[counter], 0, "{counter}");
    }

    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    for message in ["1", "2"] {
        node.api().push("news", message).await.unwrap();
        listener.hears_text(message).await;
    }
    let after = eventually("what was heard is counted", DEADLINE, async || {
        let now = get(&node, "/console/node").await.json();
        if now["sent_bytes"].as_u64() >= Some(6) { Ok(now) } else { Err(now) }
    })
    .await;
    assert_eq!((&after["connections"], &after["pushes"], &after["deliveries"]), (&1.into(), &2.into(), &2.into()));
    assert!(after["clock_ms"].as_u64() >= before["clock_ms"].as_u64(), "{before} {after}");
    assert_eq!((&after["id"], &after["start_time"]), (&before["id"], &before["start_time"]));

    node.terminate();
    eventually("it says that it is stopping", DEADLINE, async || {
        let now = get(&node, "/console/node").await.json();
        if now["draining"] == true { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test]
async fn websockets_on_the_port_of_the_page_have_no_port_of_their_own() {
    let port = support::redis::free_port().to_string();
    let node = Node::start(&[("WS_PORT", &port), ("HTTP_PORT", &port)]).await;
    assert_eq!(get(&node, "/console/node").await.json()["ws_port"], Value::Null);
}

#[tokio::test]
async fn the_nodes_of_the_cluster_are_listed_by_each_of_them() {
    let fleet = Fleet::start(2, &[]).await;
    let _listener = Listener::connect(fleet.nodes[1].ws(), "/").await;
    for node in &fleet.nodes {
        eventually("both nodes are listed, with their connections", DEADLINE, async || {
            let reply = get(node, "/console/nodes").await.json();
            assert_eq!(reply["node"], get(node, "/console/node").await.json()["id"]);
            let by_address = |nodes: &Value| {
                let row = |node: &Value| {
                    assert!(node["seq"].is_u64() && node["start_time"].is_u64() && node["version"].is_string());
                    assert_eq!(node["id"].as_str().unwrap().len(), 32);
                    (node["address"].as_str().unwrap().to_owned(), node["counters"]["connections"].as_u64().unwrap())
                };
                nodes.as_array().unwrap().iter().map(row).collect::<BTreeMap<_, _>>()
            };
            let wanted = [(&fleet.nodes[0], 0), (&fleet.nodes[1], 1)];
            let wanted: BTreeMap<_, _> = wanted.map(|(node, count)| (node.http().to_string(), count)).into();
            let found = by_address(&reply["nodes"]);
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn without_redis_a_node_says_so_and_lists_nobody() {
    let mut redis = RedisServer::start().await;
    let node = Node::on(&redis.url()).await;
    redis.kill();
    let away = eventually("the node says that redis is away", DEADLINE, async || {
        let now = get(&node, "/console/node").await.json();
        if now["state"] == "away" { Ok(now) } else { Err(now) }
    })
    .await;
    assert!(!away["reason"].as_str().unwrap().is_empty());
    let nodes = get(&node, "/console/nodes").await;
    assert_eq!(nodes.status, 503);
    assert!(!nodes.json()["error"].as_str().unwrap().is_empty());
}

#[test]
fn no_file_of_the_page_refers_to_another_host_or_runs_what_is_inline() {
    for (name, text) in files() {
        // A name, not an address: nothing is loaded from there.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for scheme in ["http://", "https://", "src=\"//", "href=\"//", "url(", "@import"] {
            assert!(!text.contains(scheme), "{name} has {scheme}");
        }
        for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!text.contains(unsafe_way), "{name} has {unsafe_way}");
        }
        if name.ends_with(".html") {
            for inline in ["<style", " style=", "<script>", " onclick=", " onload=", "javascript:"] {
                assert!(!text.contains(inline), "{name} has {inline}");
            }
        }
    }
}

/// The languages' tables, by file name.
fn tables() -> BTreeMap<String, BTreeMap<String, String>> {
    let files = files().into_iter().filter(|(name, _)| name.starts_with("languages/"));
    files.map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect()
}

#[test]
fn every_language_has_the_same_keys_with_the_same_values_to_put_in() {
    let placeholders = |text: &str| {
        let names = text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned());
        names.collect::<BTreeSet<_>>()
    };
    let tables = tables();
    assert_eq!(tables.len(), 4);
    let english = &tables["languages/en.json"];
    for (name, table) in &tables {
        assert_eq!(table.keys().collect::<Vec<_>>(), english.keys().collect::<Vec<_>>(), "{name}");
        for (key, text) in table {
            assert!(!text.trim().is_empty(), "{name}: {key} is empty");
            assert_eq!(placeholders(text), placeholders(&english[key]), "{name}: {key}");
        }
    }
}

#[test]
fn the_page_uses_the_keys_that_there_are_and_no_others() {
    let (html, scripts) = (all_of(".html"), all_of(".js"));
    let english = &tables()["languages/en.json"];
    for attribute in ["text", "label", "hint", "title"] {
        for rest in html.split(&format!(" data-{attribute}=\"")).skip(1) {
            let key = rest.split('"').next().unwrap();
            assert!(english.contains_key(key), "index.html: {key} is in no table");
        }
    }
    for rest in scripts.split("text(\"").skip(1) {
        let key = rest.split('"').next().unwrap();
        assert!(english.contains_key(key), "a script: {key} is in no table");
    }
    for key in english.keys() {
        let used = html.contains(&format!("=\"{key}\"")) || scripts.contains(&format!("\"{key}\""));
        // Made of a first part and something that is known when the page runs.
        let made = key.char_indices().filter(|&(_, character)| character == '.');
        let made = made.map(|(end, _)| format!("`{}${{", &key[..=end])).any(|begin| scripts.contains(&begin));
        assert!(used || made, "{key} is in the tables and nowhere else");
    }
}
