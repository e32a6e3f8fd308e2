//! Starts nginx with nchan, a push server of the same kind, to compare with: one process, everything it can log or keep
//! turned off.

use super::{Child, MESSAGE_LEN, Server, free_address};
use crate::load::PushRequest;
use anyhow::{Context, Result};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub(super) fn start(nginx: &Path) -> Result<Server> {
    let address = free_address()?;
    let directory = TempDir::new()?;
    let file = directory.path().join("nginx.conf");
    fs::write(&file, configuration(directory.path(), address.port())).with_context(|| file.display().to_string())?;
    let mut command = Command::new(nginx);
    command.arg("-p").arg(directory.path()).arg("-e").arg(directory.path().join("error.log")).arg("-c").arg(&file);
    let mut process = Child::spawn_in(directory, "nginx with nchan", &mut command)?;
    process.until(|_| TcpStream::connect(address).ok())?;
    Ok(Server {
        name: "nginx with nchan",
        process,
        listen: address,
        target: "/sub".into(),
        tls: None,
        push: address,
        // 201 where the channel has subscribers, 202 where it has none.
        request: PushRequest::post(address, "/pub", MESSAGE_LEN, "HTTP/1.1 20"),
        redis: None,
    })
}

fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off;
master_process off;
user root;
pid {directory}/pid;
error_log {directory}/error.log crit;
events {{ worker_connections 19000; use epoll; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_max_reserved_memory 512m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /sub {{ nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
        location = /pub {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 0; }}
    }}
}}
"
    )
}
