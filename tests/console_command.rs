//! The console command: its two spellings, what it prints in two languages, and nodes in the background.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use support::node::{Finished, carillon, finish};
use support::redis::free_port;
use support::{DEADLINE, Listener, Node, eventually};

async fn run(line: &str, environment: &[(&str, &str)]) -> Finished {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    finish(carillon(&arguments, environment)).await
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_said_in_the_operators_language() {
    let nobody = free_port();
    let status = format!("-s status -p {nobody}");
    let status_en = format!("status -h 127.0.0.1 -p {nobody} --lang en");
    for (line, environment, code, said) in [
        ("-s", &[][..], 2, "缺少s指令，s指令用于指明具体操作"),
        ("-h 127.0.0.1 -p 9501", &[], 2, "缺少s指令，s指令用于指明具体操作"),
        ("-s restart", &[], 2, "s指令仅可用start|stop|reload|status|say"),
        ("-s say", &[], 2, "缺少i参数"),
        ("-s say -i", &[], 2, "缺少i参数"),
        ("say -h 127.0.0.1", &[], 2, "缺少i参数"),
        (&status, &[], 3, "连接服务失败"),
        ("-s", &[("LANG", "en_US.UTF-8")], 2, "-s is missing: it names the operation"),
        ("-s restart --lang en", &[], 2, "-s can only be start|stop|reload|status|say"),
        ("-s say", &[("LC_ALL", "en_GB"), ("LANG", "zh_CN.UTF-8")], 2, "-i is missing"),
        ("-s say --lang zh", &[("LC_ALL", "en_GB")], 2, "缺少i参数"),
        ("-s say", &[("LC_ALL", "zh_CN.UTF-8"), ("LANG", "en_US")], 2, "缺少i参数"),
        ("-s say", &[("LC_ALL", ""), ("LC_MESSAGES", "en"), ("LANG", "zh_CN")], 2, "-i is missing"),
        (&status_en, &[], 3, "can't connect to the service"),
    ] {
        let finished = run(line, environment).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (code, ""), "{line}");
        assert_eq!(finished.stderr.lines().next(), Some(said), "{line} {environment:?}");
    }
    for line in ["-s status -p x", "-s status --lang fr", "-s status more", "start --log-file x", "start -d"] {
        assert_eq!(run(line, &[]).await.code, 2, "{line}");
    }
    for line in ["-h", "--help", "status --help", "start --help"] {
        let finished = run(line, &[]).await;
        assert!(finished.code == 0 && finished.stdout.contains("carillon"), "{line}");
    }
}

#[tokio::test]
async fn both_spellings_work_over_either_port() {
    let node = Node::start(&[("MANAGER_PORT", "0")]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for port in [node.manager().port(), node.http().port()] {
        let zh = format!("当前服务器共有 1 个连接\n主进程PID: {}\n内存占用量: ", node.id());
        let en = format!("Connections to this server: 1\nMain process PID: {}\nMemory in use: ", node.id());
        for (line, said) in [
            (format!("-s status -h 127.0.0.1 -p {port}"), zh.as_str()),
            (format!("-p {port} -s=status --lang en"), &en),
            (format!("status -p {port}"), &zh),
            (format!("status -h localhost -p {port} --lang en"), &en),
            (format!("-s reload -p {port}"), "服务即将重启\n"),
            (format!("reload -p {port} --lang en"), "the service is about to reload\n"),
            (format!("-s say -i hello -p {port}"), "广播成功\n"),
            (format!("say -i hello -p {port} --json"), "{\"status\":true,\"message\":\"广播成功\"}\n"),
        ] {
            let finished = run(&line, &[]).await;
            assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{line}");
            assert!(finished.stdout.starts_with(said), "{line}: {}", finished.stdout);
        }
        for _ in 0..2 {
            let wanted = r#"{"status":200,"event":"serverBroadcast","info":"收到服务广播内容","param":"hello"}"#;
            client.hears_text(wanted).await;
        }
    }
    // Neither an answer of the API nor a WebSocket port is taken for the console's.
    let finished = run(&format!("status -p {}", node.ws().port()), &[]).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{}", finished.stderr);
}

#[tokio::test]
async fn a_text_may_be_any() {
    let node = Node::start(&[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    let port = node.http().port().to_string();
    for text in ["-s stop", "大家好", "two\nlines \"&<\\", "-"] {
        let finished = finish(carillon(&["-s", "say", "-p", &port, "-i", text], &[])).await;
        assert_eq!(finished.code, 0, "{text}: {}", finished.stderr);
        let param = serde_json::to_string(text).unwrap();
        let wanted = format!(r#"{{"status":200,"event":"serverBroadcast","info":"收到服务广播内容","param":{param}}}"#);
        client.hears_text(&wanted).await;
    }
}

#[tokio::test]
async fn the_node_of_this_machine_is_found_by_its_variables_with_its_token() {
    let (http, manager) = (free_port().to_string(), free_port().to_string());
    for environment in
        [&[("HTTP_PORT", http.as_str())][..], &[("HTTP_PORT", &http), ("MANAGER_PORT", &manager), ("TOKEN", "one,two")]]
    {
        let _node = Node::start(environment).await;
        let finished = run("-s status", environment).await;
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{environment:?}");
    }
}

#[tokio::test]
async fn a_token_is_needed_where_one_is_set_and_is_sent_to_nobody_else() {
    let node = Node::start(&[("HTTP_TOKEN", "correct-horse")]).await;
    let line = format!("status -p {}", node.http().port());
    // That is the token of this machine's node, and with -p another one may be meant.
    for (environment, code) in [
        (&[][..], 1),
        (&[("HTTP_TOKEN", "correct-horse")], 1),
        (&[("CARILLON_TOKEN", "wrong")], 1),
        (&[("CARILLON_TOKEN", "correct-horse")], 0),
    ] {
        let finished = run(&line, environment).await;
        assert_eq!(finished.code, code, "{environment:?} {}", finished.stderr);
        assert!(code == 0 || finished.stderr.starts_with("无权操作\n"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("correct-horse"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn a_broken_configuration_keeps_nobody_from_stopping_a_node() {
    let mut node = Node::start(&[]).await;
    let broken = [("MAX_PUSH", "a lot")];
    let finished = run("stop", &broken).await;
    assert!(finished.code == 2 && finished.stderr.contains("-h and -p"), "{}", finished.stderr);
    let finished = run(&format!("stop -p {}", node.http().port()), &broken).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_node_that_waits_for_a_proxys_header_is_not_called_unreachable() {
    let nobody = free_port().to_string();
    let proxied = [("PROXY_PROTOCOL", "true"), ("HTTP_PORT", &nobody)];
    let finished = run("status", &proxied).await;
    assert!(finished.code == 2 && finished.stderr.contains("set MANAGER_PORT"), "{}", finished.stderr);
    // Another machine's node is asked all the same.
    let finished = run("status -h 127.0.0.1", &proxied).await;
    assert_eq!((finished.code, finished.stderr.lines().next()), (3, Some("连接服务失败")));
}

#[tokio::test]
async fn stop_ends_a_node_after_its_answer() {
    for spelling in ["-s stop", "stop"] {
        let mut node = Node::start(&[]).await;
        let finished = run(&format!("{spelling} -p {}", node.http().port()), &[]).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (0, "服务即将关闭\n"), "{}", finished.stderr);
        assert_eq!(node.ended().await.code(), Some(0));
    }
}

/// A place for a node in the background, which doesn't outlive the test.
struct Background {
    directory: tempfile::TempDir,
    http: String,
    ws: String,
}

impl Background {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), http: free_port().to_string(), ws: free_port().to_string() }
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.path().join("carillon.pid")
    }

    fn environment(&self) -> [(&str, &str); 4] {
        [("HTTP_PORT", &self.http), ("WS_PORT", &self.ws), ("WS_HOST", "127.0.0.1"), ("LOG", "info")]
    }

    async fn run(&self, line: &str) -> Finished {
        run(line, &self.environment()).await
    }

    async fn start(&self) -> Finished {
        self.run(&format!("-s start -d --pid-file {}", self.pid_file().display())).await
    }

    /// Starts it, and the number of its process.
    async fn started(&self) -> i32 {
        let finished = self.start().await;
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{}", finished.stdout);
        let pid = finished.stdout.trim_end().strip_prefix("服务已启动，主进程PID: ").unwrap().to_owned();
        assert_eq!(fs::read_to_string(self.pid_file()).unwrap(), format!("{pid}\n"));
        pid.parse().unwrap()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A file of a killed node may name a process that is somebody else's by now.
        let pid = fs::read_to_string(self.pid_file()).ok().and_then(|pid| pid.trim().parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { return };
        let program = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap_or_default();
        if program == Path::new(env!("CARGO_BIN_EXE_carillon")) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[tokio::test]
async fn a_node_in_the_background_starts_once_and_stops() {
    let background = Background::new();
    let pid = background.started().await;
    // It listens already.
    let status = background.run("-s status").await;
    assert!(status.stdout.contains(&format!("主进程PID: {pid}\n")), "{} {}", status.stdout, status.stderr);
    // It leads a session of its own: fields 5 and 6 of the line, after the name, are group and session (proc(5)).
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[2..4], [pid.to_string(), pid.to_string()]);
    let log = fs::read_to_string(background.directory.path().join("carillon.log")).unwrap();
    assert!(log.contains("\"listening\""), "{log}");

    let second = background.start().await;
    assert_eq!((second.code, second.stdout.as_str()), (1, ""));
    assert!(second.stderr.starts_with("服务启动失败\n"), "{}", second.stderr);
    assert!(second.stderr.contains(&format!("process {pid} runs already")), "{}", second.stderr);
    assert!(!second.stderr.contains("\"listening\""), "the first one's log is shown: {}", second.stderr);
    // In the foreground as well.
    let third = background.run(&format!("start --pid-file {}", background.pid_file().display())).await;
    assert_eq!(third.code, 1, "{}", third.stderr);

    let stop = background.run("stop").await;
    assert_eq!((stop.code, stop.stdout.as_str()), (0, "服务即将关闭\n"), "{}", stop.stderr);
    eventually("the pid file is taken away", DEADLINE, async || {
        if background.pid_file().exists() { Err("it is there") } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn the_pid_file_of_a_killed_node_is_in_nobodys_way() {
    let background = Background::new();
    // Left by something else, with the number of a process that runs.
    fs::write(background.pid_file(), format!("{}\n", std::process::id())).unwrap();
    let first = background.started().await;
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    eventually("the killed node's port is free", DEADLINE, async || {
        TcpListener::bind(format!("127.0.0.1:{}", background.http)).map(drop)
    })
    .await;
    assert_eq!(fs::read_to_string(background.pid_file()).unwrap(), format!("{first}\n"));
    let second = background.started().await;
    assert_ne!(first, second);
    // A signal stops it as it stops every node.
    kill_process(Pid::from_raw(second).unwrap(), Signal::TERM).unwrap();
    eventually("the pid file is taken away", DEADLINE, async || {
        if background.pid_file().exists() { Err("it is there") } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_pid_file_is_not_replaced() {
    let background = Background::new();
    fs::write(background.pid_file(), "HTTP_PORT=8080\n").unwrap();
    let finished = background.start().await;
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("holds something else than a process number"), "{}", finished.stderr);
    assert_eq!(fs::read_to_string(background.pid_file()).unwrap(), "HTTP_PORT=8080\n");
}

#[tokio::test]
async fn a_script_that_starts_with_host_and_port_gets_a_node() {
    let background = Background::new();
    // The replaced command ignored them, and so they are here: help with exit code 0 would look like a start.
    let finished = background
        .run(&format!("-s start -h 127.0.0.1 -p 9501 -d --pid-file {}", background.pid_file().display()))
        .await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{}", finished.stdout);
    assert!(finished.stdout.starts_with("服务已启动"), "{}", finished.stdout);
    // In the foreground an empty variable is no pid file.
    let mut environment = background.environment().to_vec();
    environment.push(("CARILLON_PID_FILE", ""));
    let finished = run("start -h 127.0.0.1", &environment).await;
    assert!(finished.code == 1 && finished.stderr.contains("can't listen on"), "{}", finished.stderr);
}

#[tokio::test]
async fn start_says_why_there_is_no_node() {
    let background = Background::new();
    let _taken = TcpListener::bind(format!("127.0.0.1:{}", background.http)).unwrap();
    let finished = background.start().await;
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("HTTP_PORT: can't listen on"), "{}", finished.stderr);
    assert!(!background.pid_file().exists());

    let line = format!("start -d --lang en --pid-file {}", background.pid_file().display());
    let finished = run(&line, &[("HTTP_PORT", "http")]).await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.starts_with("the service has not started\n"), "{}", finished.stderr);
    assert!(finished.stderr.contains("HTTP_PORT=\"http\""), "{}", finished.stderr);
    // Not one line of either file may go into the other.
    let finished = run("start -d --pid-file carillon.log", &[]).await;
    assert!(finished.code == 2 && finished.stderr.contains("--log-file"), "{}", finished.stderr);
    // An empty variable is an unset one.
    let finished = run("start -d", &[("CARILLON_PID_FILE", "")]).await;
    assert!(finished.code == 2 && finished.stderr.contains("--pid-file"), "{}", finished.stderr);
    let finished = run("start -d --pid-file /nowhere/carillon.pid", &[]).await;
    assert!(finished.code == 1 && finished.stderr.contains("/nowhere/carillon.log"), "{}", finished.stderr);
}
