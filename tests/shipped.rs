//! What is shipped beside the program: its version, the image's and the unit's files, what it tells its system.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a surprise is a failure with a backtrace")]

mod support;

use carillon::config::VARIABLES;
use std::env;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use support::http::get;
use support::node::{carillon, finish};
use support::{DEADLINE, Node, eventually};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a command that has to succeed.
fn run(command: &mut Command) -> String {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

#[test]
fn the_version_is_the_same_everywhere() {
    for (name, line) in [
        ("Cargo.toml", format!("\nversion = \"{VERSION}\"\n")),
        ("Dockerfile", format!(" org.opencontainers.image.version=\"{VERSION}\" ")),
        ("helm/carillon/Chart.yaml", format!("\nappVersion: \"{VERSION}\"\n")),
        ("CHANGELOG.md", format!("\n## {VERSION}")),
    ] {
        assert!(file(name).contains(&line), "{name} has no {line:?}");
    }
}

#[tokio::test]
async fn the_command_the_metrics_and_the_log_tell_the_same_version_and_commit() {
    let said = finish(carillon(&["--version"], &[])).await.stdout;
    let commit = match said.trim().strip_prefix(&format!("carillon {VERSION}")) {
        Some("") => "unknown",
        Some(commit) => commit.strip_prefix(" (").and_then(|commit| commit.strip_suffix(')')).expect("a commit"),
        None => panic!("{said}"),
    };
    let node = Node::start(&[]).await;
    let page = get(node.http(), "/metrics").await.unwrap();
    let line = format!("carillon_build_info{{commit=\"{commit}\",version=\"{VERSION}\"}} 1");
    assert!(page.text().lines().any(|found| found == line), "no {line}");
}

/// The build script as a program, in a directory of its own.
fn build_script() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("build");
    run(Command::new("rustc").args(["--edition", "2024", "-o"]).arg(&program).arg(Path::new(ROOT).join("build.rs")));
    (directory, program)
}

/// The commit that a build in this directory would show.
fn commit_of(program: &Path, directory: &Path, variables: &[(&str, &str)]) -> String {
    let path = env::var_os("PATH").unwrap();
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("CARGO_MANIFEST_DIR", directory).env("PROFILE", "release");
    let said = run(command.envs(variables.iter().copied()).current_dir(directory));
    let found = said.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=CARILLON_COMMIT="));
    found.expect("the variable is set").to_owned()
}

#[test]
fn a_build_knows_its_commit_from_its_environment_from_git_or_not_at_all() {
    let (_directory, program) = build_script();
    let here = tempfile::tempdir().unwrap();
    let directory = here.path();
    assert_eq!(commit_of(&program, directory, &[("CARILLON_COMMIT", "abc")]), "abc");
    assert_eq!(commit_of(&program, directory, &[]), "", "no repository");
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
        run(Command::new("git").args(who).args(arguments).current_dir(directory)).trim().to_owned()
    };
    git(&["init", "--quiet"]);
    assert_eq!(commit_of(&program, directory, &[]), "", "no commit");
    fs::create_dir(directory.join("src")).unwrap();
    fs::write(directory.join("src/main.rs"), "fn main() {}").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "first"]);
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    assert_eq!(commit_of(&program, directory, &[]), commit);
    assert_eq!(commit_of(&program, directory, &[("CARILLON_COMMIT", "")]), commit, "an empty variable is an unset one");
    assert_eq!(commit_of(&program, directory, &[("PATH", "/nowhere")]), "", "no git");
    assert_eq!(commit_of(&program, &directory.join("src"), &[]), "", "somebody else's repository");
    fs::write(directory.join("notes.md"), "of no account").unwrap();
    assert_eq!(commit_of(&program, directory, &[]), commit);
    fs::write(directory.join("src/main.rs"), "fn main() { println!() }").unwrap();
    assert_eq!(commit_of(&program, directory, &[]), format!("{commit}-dirty"));
}

#[test]
fn files_that_the_compose_file_mounts_are_there() {
    let compose = file("docker-compose.yml");
    let mounted: Vec<&str> = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./"))
        .filter_map(|line| line.split(':').next())
        .collect();
    assert!(mounted.contains(&"deploy/nginx.conf"), "{mounted:?}");
    for name in mounted {
        assert!(Path::new(ROOT).join(name).exists(), "{name}");
    }
}

#[test]
fn what_the_image_is_built_from_is_sent_to_its_build() {
    let sent = file(".dockerignore");
    for name in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "bench"] {
        assert!(sent.lines().any(|line| line == format!("!{name}")), "{name}");
    }
    // Files beyond those that are compiled in would be missing there.
    let included =
        run(Command::new("grep").args(["-rhoE", r#"include_(str|bytes)!\("[^"]*"\)"#, "src"]).current_dir(ROOT));
    assert!(!included.contains("../../../"), "{included}");
}

#[test]
fn variables_of_the_unit_s_example_are_the_program_s() {
    let known: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    let example = file("deploy/carillon.env.example");
    let named: Vec<&str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(named.len() > 2, "{named:?}");
    for name in named {
        assert!(known.contains(&name), "{name}");
    }
}

#[test]
fn the_unit_is_well_formed_and_hardened() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("carillon.service");
    // systemd-analyze looks whether the program is there.
    let text = file("deploy/carillon.service").replace("/usr/local/bin/carillon", env!("CARGO_BIN_EXE_carillon"));
    fs::write(&unit, text).unwrap();
    let said = run(Command::new("systemd-analyze").arg("verify").arg(&unit));
    assert!(!said.contains("carillon.service"), "{said}");
    // An exposure of 2.0 of 10, by systemd's own scale, is what it may have at most.
    run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&unit));
}

#[test]
fn the_unit_is_started_again_until_it_runs_unless_its_configuration_is_wrong() {
    let unit = file("deploy/carillon.service");
    let settings: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    let about = settings.split(|line| *line == "[Service]").next().unwrap_or_default();
    // systemd takes it in that section alone, and ignores it elsewhere.
    assert!(about.contains(&"StartLimitIntervalSec=0"), "{about:?}");
    assert!(
        settings.contains(&"Restart=on-failure") && settings.contains(&"RestartPreventExitStatus=2"),
        "{settings:?}"
    );
}

#[tokio::test]
async fn a_service_manager_is_told_once_the_node_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut node = Node::spawn(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let mut told = [0; 256];
    let length = socket.recv(&mut told).unwrap();
    assert!(told[..length].starts_with(b"READY=1\n"), "{}", String::from_utf8_lossy(&told[..length]));
    node.listening().await;
    assert!(node.api().is_ready().await);
}

#[tokio::test]
async fn text_that_is_logged_to_no_terminal_has_no_colours() {
    let node = Node::spawn(&[("LOG_FORMAT", "text")]);
    node.logs("listening").await;
    let log = node.log();
    assert!(
        log.iter().any(|line| line.contains(" INFO ")) && !log.iter().any(|line| line.contains('\u{1b}')),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_service_manager_that_is_not_there_is_put_up_with() {
    let node = Node::start(&[("NOTIFY_SOCKET", "/nowhere/notify")]).await;
    node.logs("/nowhere/notify").await;
    assert!(node.log().iter().any(|line| line.contains("/nowhere/notify") && line.contains("WARN")));
}

/// A process that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_node_may_open_as_many_files_as_it_may_be_allowed() {
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -Sn 64 && ulimit -Hn 512 && exec \"$0\"", env!("CARGO_BIN_EXE_carillon")]);
    command.env_clear().env("WS_PORT", "0").env("HTTP_PORT", "0").env("WS_HOST", "127.0.0.1");
    let process = Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let limits = format!("/proc/{}/limits", process.0.id());
    eventually("its limit is raised", DEADLINE, async || {
        let limits = fs::read_to_string(&limits).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        support::eventually::same(numbers, vec!["512", "512"])
    })
    .await;
}
