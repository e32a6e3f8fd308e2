//! Starts the bare loop.

use super::{Child, MESSAGE_LEN, Server};
use crate::load::PushRequest;
use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

pub(super) fn start(program: &Path) -> Result<Server> {
    let mut process = Child::spawn("the bare loop", &mut Command::new(program))?;
    let (listen, push) = process.until(|process| {
        let output = process.output();
        let (listen, push) = output.strip_suffix('\n')?.split_once(' ')?;
        Some((listen.parse().ok()?, push.parse().ok()?))
    })?;
    let [listen, push] = [listen, push].map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Ok(Server {
        name: "bare loop of send(2)",
        process,
        listen,
        target: "/".into(),
        tls: None,
        push,
        request: PushRequest::get(push, "/?message=", MESSAGE_LEN, "200 OK"),
        redis: None,
    })
}
