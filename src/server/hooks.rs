//! What a program is told of the clients of the built-in profiles, and what it may say to that.

use super::client::Client;
use super::message::{Closed, Message};
use super::middleware::Outcome;
use super::profile::Profile;
use crate::session::hooks::Wanted;
use async_trait::async_trait;
use hyper::StatusCode;
use std::error::Error;

/// Whether a client is let in.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// It is.
    Accept,
    /// It isn't: its handshake is answered with this status, which is of 400 to 599, else 403, and this text.
    Refuse(StatusCode, String),
}

/// What becomes of a client's message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Heard {
    /// Nothing more: it was for the program alone.
    Done,
    /// Nothing more, and the client gets this text.
    Reply(String),
    /// It goes on, to the server's [controllers](super::Builder::controller), its [webhook](super::Builder::webhook), or else to what
    /// its profile's rules make of it.
    PassOn,
}

/// A program's hooks: told when clients of the built-in [profiles](super::Builder::profile) connect, send something, and are gone.
/// Each method has a body that wants nothing, so that a program writes those that it needs.
///
/// Of one connection `on_open` comes first, then each `on_message` after the one before it has ended, then `on_close`. Until
/// `on_open` and `on_message` have ended their client waits, and no other one does; both, and each attempt at `on_close`, are ended
/// after [`Builder::hook_timeout`](super::Builder::hook_timeout). A panic counts as an error.
///
/// What a killed node owes is told by whichever node comes first, so all nodes of a cluster should have the same hooks.
///
/// With a [webhook](super::Builder::webhook) as well the hooks come first: it is asked about a client that they have let in, told of
/// messages that they pass on, and of every end.
///
/// ```
/// use carillon::{Client, Closed, Entry, Heard, Hooks, Message, Outcome, StatusCode};
/// use std::error::Error;
///
/// struct Lobby;
///
/// #[carillon::async_trait]
/// impl Hooks for Lobby {
///     async fn on_open(&self, client: &Client) -> Result<Entry, Box<dyn Error + Send + Sync>> {
///         match client.parameter("name") {
///             Some(name) => {
///                 client.push(format!("welcome, {name}")).await?;
///                 Ok(Entry::Accept)
///             }
///             None => Ok(Entry::Refuse(StatusCode::FORBIDDEN, "who are you?".to_owned())),
///         }
///     }
///
///     async fn on_message(&self, client: &Client, message: &Message) -> Result<Heard, Box<dyn Error + Send + Sync>> {
///         let name = client.parameter("name").unwrap_or("somebody");
///         client.cluster().broadcast(format!("{name}: {}", message.as_text().unwrap_or("(bytes)"))).await?;
///         Ok(Heard::Done)
///     }
///
///     async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
///         let name = client.parameter("name").unwrap_or("somebody");
///         client.cluster().broadcast(format!("{name} is gone: {}", how.code)).await?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn Error>> {
/// let server = carillon::Server::builder().profile("/", carillon::Profile::Channel).hooks(Lobby).start().await?;
/// # server.run_until(async {}).await;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// What it is told of connections with this profile; asked at each event, so it has to be quick, and always the same. All of it,
    /// unless the program says otherwise. What isn't wanted costs nothing; on Redis the directory keeps more of a connection whose
    /// end is wanted.
    fn wanted(&self, profile: Profile) -> Wanted {
        let _ = profile;
        Wanted::ALL
    }

    /// A client is about to be let in: it is in the cluster, and what it is pushed waits until its handshake is answered.
    ///
    /// # Errors
    /// Whether it is let in could not be found out: the client is answered with 503, and the error logged.
    async fn on_open(&self, client: &Client) -> Result<Entry, Box<dyn Error + Send + Sync>> {
        let _ = client;
        Ok(Entry::Accept)
    }

    /// A client has sent a message. In the profile `method` it is its JSON, with `code`, `auth` and `fd` put in. Keep-alives are not
    /// told.
    ///
    /// # Errors
    /// What to do with it could not be found out; that is logged. In the profile `method` the client is told `controllerError`.
    async fn on_message(&self, client: &Client, message: &Message) -> Result<Heard, Box<dyn Error + Send + Sync>> {
        let _ = (client, message);
        Ok(Heard::PassOn)
    }

    /// A connection has ended, however it was. Whoever it was in is told by now: `client` is as it was at that moment.
    ///
    /// It is called at least once for every connection that `on_open` has let in. On Redis that holds when the connection's node was
    /// killed, too: a node that lives does it then, with the code 1006 and the cause `node_died` where the end was not known. It may be
    /// called again for the same [`Client::id`], so a program that counts has to look at that.
    ///
    /// No connection waits for it. Sixty-four are told of at once, and 65,536 may wait; of more the last is given up. A server that stops
    /// waits for those that are left for as long as one call may take; what isn't told by then another node tells, where there is
    /// Redis.
    ///
    /// # Errors
    /// It is called again, three times at most, later and later; then given up (`carillon_hooks_closes_given_up_total`) and logged.
    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        let _ = (client, how);
        Ok(())
    }
}
