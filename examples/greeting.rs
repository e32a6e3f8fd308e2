//! A greeting for everybody who says a name, and a page at `/` that does.
//!
//! `cargo run --example greeting`, then open <http://127.0.0.1:9502/>. `cargo run --example greeting 127.0.0.1:0` takes a free port.

use carillon::{Handshake, Outcome, Response, Server};
use std::error::Error;
use std::net::SocketAddr;

const PAGE: &str = r#"<!DOCTYPE html>
<meta charset="utf-8">
<title>Greeting</title>
<h1>A WebSocket server in Rust</h1>
<ul></ul>
<script>
const list = document.querySelector('ul');
const show = text => list.append(Object.assign(document.createElement('li'), { textContent: text }));
const socket = new WebSocket(`ws://${location.host}/websocket`);
socket.onopen = () => { show('connected'); socket.send('world'); };
socket.onmessage = event => show(event.data);
socket.onclose = event => show(`closed with ${event.code}`);
socket.onerror = () => show('an error');
</script>
"#;

async fn greet(handshake: Handshake) -> Outcome {
    let mut connection = handshake.accept().await?;
    while let Some(message) = connection.recv().await? {
        let name = message.as_text().unwrap_or("whoever you are");
        if name == "close" {
            connection.close(1000, "bye").await;
            break;
        }
        connection.push(format!("Hello, {name}!")).await?;
        connection.push(format!("How are you, {name}?")).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:9502").parse()?;
    let server = Server::builder()
        .listen(address)
        .handle("/websocket", greet)
        .handle_http("/", |_request| async { Response::html(PAGE) })
        .start()
        .await?;
    #[expect(clippy::print_stdout, reason = "what its user wants to know")]
    {
        println!("http://{}/", server.address());
    }
    server.run().await?;
    Ok(())
}
