//! A program on the library: its handler makes each client a member of the one channel and then waits for what the client says.
//!
//! `carillon-handler CLIENTS API`: the addresses to listen on.

use carillon::{Accept, Handshake, Outcome, Server, channel};
use mimalloc::MiMalloc;
use std::error::Error;
use std::net::SocketAddr;

/// That of the server, so that the two can be compared.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

async fn wait(handshake: Handshake) -> Outcome {
    let mut connection = handshake.accept_with(Accept::new().join(channel("bench")?)).await?;
    while connection.recv().await?.is_some() {}
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1).map(|address| address.parse::<SocketAddr>());
    let (Some(clients), Some(api)) = (addresses.next(), addresses.next()) else {
        return Err("usage: carillon-handler CLIENTS API".into());
    };
    let server = Server::builder().listen(clients?).api(api?).handle("/", wait).start().await?;
    server.run().await?;
    Ok(())
}
