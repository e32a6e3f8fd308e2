//! A chat room on as many nodes as there are.
//!
//! `cargo run --example chat`, then open <http://127.0.0.1:9502/> twice. With a Redis URL as the second argument several of these are
//! one, and it makes no difference who is connected to which:
//!
//! ```sh
//! cargo run --example chat 127.0.0.1:9502 redis://127.0.0.1
//! cargo run --example chat 127.0.0.1:9503 redis://127.0.0.1
//! cargo run --example chat 127.0.0.1:9504 redis://127.0.0.1
//! ```
//!
//! A client connects to `/chat?room=ROOM&name=NAME` and speaks JSON:
//!
//! | it sends | and |
//! |---|---|
//! | `{"say":"hello"}` | the room hears `{"event":"said","name":"ann","text":"hello"}` |
//! | `{"say":"psst","to":"bob"}` | whoever is called bob, in whichever room, and ann herself hear `{"event":"whispered","name":"ann","to":"bob","text":"psst"}` |
//! | `{"who":true}` | it hears `{"event":"here","names":["ann","bob"]}`, as it does when it connects |
//!
//! The room hears `{"event":"joined","name":"bob"}` and `{"event":"left","name":"bob"}`. Where bob's node was killed nobody is left
//! to say that he has, but he is not here any more, whoever asks; the page asks now and then.
//!
//! A room is a channel. A name is a user, and, to know who is here, a group for each room that it is in: groups can be listed.

mod room;

use carillon::{Accept, Connection, Handshake, Outcome, Response, Server, StatusCode};
use room::{Event, Place};
use serde::Deserialize;
use std::error::Error;
use std::net::SocketAddr;

/// What a client sends.
#[derive(Deserialize)]
struct Said {
    say: Option<String>,
    to: Option<String>,
    #[serde(default)]
    who: bool,
}

async fn chat(handshake: Handshake) -> Outcome {
    let parameter = |name| handshake.request().parameter(name).unwrap_or_default().into_owned();
    let place = match Place::new(&parameter("room"), &parameter("name")) {
        Ok(place) => place,
        Err(why) => {
            handshake.refuse(Response::text(StatusCode::BAD_REQUEST, format!("{why}\n")));
            return Ok(());
        }
    };
    // Everything before the client knows that it is connected, so that it misses nothing.
    let accept = Accept::new().join(place.room.clone()).join(place.presence.clone()).bind(place.name.clone());
    let mut connection = handshake.accept_with(accept).await?;
    let (cluster, me) = (connection.cluster().clone(), connection.id());
    if !place.is_elsewhere(&cluster, me).await? {
        cluster.publish(place.tell(&Event::Joined { name: place.name.as_str() }).except(me)).await?;
    }
    let outcome = converse(&mut connection, &place).await;
    if !place.is_elsewhere(&cluster, me).await? {
        cluster.publish(place.tell(&Event::Left { name: place.name.as_str() }).except(me)).await?;
    }
    outcome
}

async fn converse(connection: &mut Connection, place: &Place) -> Outcome {
    let cluster = connection.cluster().clone();
    connection.push(place.here(&cluster).await?).await?;
    while let Some(message) = connection.recv().await? {
        let said = message.as_text().and_then(|text| serde_json::from_str(text).ok());
        match said {
            Some(Said { who: true, .. }) => connection.push(place.here(&cluster).await?).await?,
            Some(Said { say: Some(text), to: Some(to), .. }) => {
                if !place.whisper(&cluster, &to, &text).await? {
                    connection.push(Event::Error { text: "nobody of that name is here" }.to_string()).await?;
                }
            }
            Some(Said { say: Some(text), to: None, .. }) => {
                let said = Event::Said { name: place.name.as_str(), text: &text };
                cluster.publish(place.tell(&said)).await?;
            }
            Some(_) | None => {
                let text = r#"send {"say":"…"}, with a "to" if it is for one alone, or {"who":true}"#;
                connection.push(Event::Error { text }.to_string()).await?;
            }
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:9502").parse()?;
    let mut server = Server::builder()
        .listen(address)
        .handle("/chat", chat)
        .handle_http("/", |_request| async { Response::html(include_str!("page.html")) });
    if let Some(redis) = arguments.next() {
        server = server.redis(redis);
    }
    let server = server.start().await?;
    #[expect(clippy::print_stdout, reason = "what its user wants to know")]
    {
        println!("http://{}/", server.address());
    }
    server.run().await?;
    Ok(())
}
