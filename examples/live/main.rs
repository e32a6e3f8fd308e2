//! A live room, whole: an audience of users whose words are checked before they are shown, and walls, the screens that everybody in
//! the room looks at and that decide about those words. Controllers called by clients of the profile `method`, state in Redis, any
//! number of nodes.
//!
//! ```sh
//! cargo run --example live 127.0.0.1:9502 redis://127.0.0.1 AUTH_KEY=kfw001-websocket
//! ```
//!
//! The arguments are an address, a Redis, and any of the binary's variables: keys by which clients sign in (`AUTH_KEY`, `JWT_SECRET`),
//! or `METHOD_ESCAPE_HTML=true`. Further nodes are the same on other addresses. A client connects to `ws://127.0.0.1:9502/?auth=TOKEN`;
//! its token says who it is: `id`, `nickname`, the room's `code`, and the `type`, `wechatUser` for a user and `wall` for a wall. It
//! sends `{"method":"live.user.join"}` and hears `{"status":…,"event":…,"info":…,"param":…}`.
//!
//! | method | what it does |
//! |---|---|
//! | `live.user.join`, `out` | into and out of the room, for users |
//! | `live.user.say {say}` | shown to the room's walls alone, until one of them lets it pass |
//! | `live.user.history {page,count}` | what the room was shown, walls' and users', the newest first |
//! | `live.wall.join`, `out` | into and out of the room, for walls |
//! | `live.wall.say {say}` | shown to the room's users at once |
//! | `live.wall.recall {id}` | takes back something that was shown |
//! | `live.wall.check {id,status}` | lets a user's words pass, or with a `status` that PHP calls empty does away with them |
//! | `live.wall.history {type,page,count}` | `wall`: what walls have said; `user`: what waits to be checked |
//! | `live.wall.clean` | forgets all of that |
//!
//! `http://127.0.0.1:9502/rooms?code=CODE` says how many are in a room.
//!
//! | file | what is in it |
//! |---|---|
//! | `user.rs`, `wall.rs` | the two controllers |
//! | `room.rs` | what they share: who calls, pages, telling a room |
//! | `store.rs` | what is kept in Redis |

mod room;
mod store;
mod user;
mod wall;

use carillon::{Limits, Profile, Request, Response, Server, StatusCode};
use room::Audience;
use serde_json::json;
use std::error::Error;
use std::net::SocketAddr;
use store::Store;
use user::User;
use wall::Wall;

/// Bytes of a client's message: words, which are kept.
const MAX_MESSAGE: usize = 16 << 10;

/// How many are in a room.
async fn rooms(store: Store, request: Request) -> Response {
    let Some(code) = request.parameter("code") else { return StatusCode::NOT_FOUND.into() };
    let counted = async {
        let users = store.users(&code).await?;
        let walls = request.cluster().count_members(&Audience::Walls.of(&code)?).await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(json!({ "users": users, "walls": walls }))
    };
    match counted.await {
        Ok(counts) => Response::json(&counts),
        Err(error) => Response::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:9502").parse()?;
    let redis = arguments.next().unwrap_or_else(|| "redis://127.0.0.1".to_owned());
    let store = Store::connect(&redis).await?;
    let rooms = {
        let store = store.clone();
        move |request| rooms(store.clone(), request)
    };
    let mut server = Server::builder()
        .listen(address)
        .redis(redis)
        .limits(Limits { max_message: MAX_MESSAGE, ..Limits::default() })
        .profile("/", Profile::Method)
        .controller("Live.User", User(store.clone()))
        .controller("Live.Wall", Wall(store))
        .handle_http("/rooms", rooms);
    for argument in arguments {
        let (name, value) = argument.split_once('=').ok_or_else(|| format!("{argument:?} is not NAME=VALUE"))?;
        server = server.variable(name, value);
    }
    let server = server.start().await?;
    #[expect(clippy::print_stdout, reason = "what its user wants to know")]
    {
        println!("ws://{}/?auth=TOKEN", server.address());
    }
    server.run().await?;
    Ok(())
}
