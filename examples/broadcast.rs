//! What one client says, all of them hear.
//!
//! `cargo run --example broadcast`, then connect a few times to `ws://127.0.0.1:9502/websocket`. With a Redis URL as the second
//! argument several of these are one: `cargo run --example broadcast 127.0.0.1:9503 redis://127.0.0.1`.

use carillon::{Accept, Handshake, Outcome, Push, Server, channel};
use std::error::Error;
use std::net::SocketAddr;

async fn broadcast(handshake: Handshake) -> Outcome {
    let everybody = channel("everybody")?;
    // A member before it knows that it is connected, so that it misses nothing.
    let mut connection = handshake.accept_with(Accept::new().join(everybody.clone())).await?;
    while let Some(message) = connection.recv().await? {
        match message.as_text() {
            Some("close") | None => break,
            Some(text) => {
                let push = Push::text(everybody.clone(), format!("server: {text}"));
                connection.cluster().publish(push).await?;
            }
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:9502").parse()?;
    let mut server = Server::builder().listen(address).handle("/websocket", broadcast);
    if let Some(redis) = arguments.next() {
        server = server.redis(redis);
    }
    let server = server.start().await?;
    #[expect(clippy::print_stdout, reason = "what its user wants to know")]
    {
        println!("ws://{}/websocket", server.address());
    }
    server.run().await?;
    Ok(())
}
