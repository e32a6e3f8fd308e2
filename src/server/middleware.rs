//! Handlers, and what stands around them.

use super::handle::Handle;
use super::message::{PushError, RecvError};
use super::request::{Handshake, NotAccepted, Request, Response};
use crate::session::handler;
use futures_util::future::BoxFuture;
use std::error::Error;
use std::sync::Arc;

/// What came of serving a connection. An error closes it with 1011 where it is still open, and is logged. One that any client
/// brings about by itself is no warning but a line for debugging: [`PushError::Ended`], [`RecvError::Violation`],
/// [`NotAccepted`]. So `?` behind each call of a connection is right.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Serves WebSocket connections, from the handshake to the end; a closure that takes a [`Handshake`] is one. A panic is caught: it
/// closes its own connection with 1011, and nobody else notices.
///
/// What all connections share is a closure's own, or a type's that implements this:
///
/// ```
/// use carillon::{Handshake, Outcome, Server};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// async fn count(handshake: Handshake, visitors: Arc<AtomicUsize>) -> Outcome {
///     let number = visitors.fetch_add(1, Ordering::Relaxed) + 1;
///     let mut connection = handshake.accept().await?;
///     connection.push(format!("you are visitor {number}")).await?;
///     Ok(())
/// }
///
/// let visitors = Arc::new(AtomicUsize::new(0));
/// let builder = Server::builder().handle("/", move |handshake| count(handshake, visitors.clone()));
/// # drop(builder);
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Serves one connection.
    fn handle(&self, handshake: Handshake) -> BoxFuture<'static, Outcome>;
}

impl<F, R> Handler for F
where
    F: Fn(Handshake) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    fn handle(&self, handshake: Handshake) -> BoxFuture<'static, Outcome> {
        Box::pin(self(handshake))
    }
}

/// Answers requests that are no WebSocket handshakes; a closure that takes a [`Request`] and gives something that makes a
/// [`Response`] is one. A panic ends the client's HTTP connection.
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request) -> BoxFuture<'static, Response>;
}

impl<F, R, A> HttpHandler for F
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = A> + Send + 'static,
    A: Into<Response>,
{
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        let answer = self(request);
        Box::pin(async move { answer.await.into() })
    }
}

/// What is left to be done with a handshake: further middleware, and the handler.
#[derive(Clone)]
pub struct Next {
    around: Arc<[Arc<dyn Middleware>]>,
    /// How many of them it has passed.
    passed: usize,
    handler: Arc<dyn Handler>,
}

impl Next {
    /// Does it.
    pub fn run(mut self, handshake: Handshake) -> BoxFuture<'static, Outcome> {
        match self.around.get(self.passed).cloned() {
            Some(middleware) => {
                self.passed += 1;
                middleware.handle(handshake, self)
            }
            None => self.handler.handle(handshake),
        }
    }
}

/// Stands before handlers: looks at handshakes, refuses some, and hands the others on; a closure that takes a [`Handshake`] and
/// [`Next`] is one.
pub trait Middleware: Send + Sync + 'static {
    /// Looks at one handshake.
    fn handle(&self, handshake: Handshake, next: Next) -> BoxFuture<'static, Outcome>;
}

impl<F, R> Middleware for F
where
    F: Fn(Handshake, Next) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    fn handle(&self, handshake: Handshake, next: Next) -> BoxFuture<'static, Outcome> {
        Box::pin(self(handshake, next))
    }
}

/// A handler as sessions know it.
pub(super) struct Mounted {
    pub(super) around: Arc<[Arc<dyn Middleware>]>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handle: Handle,
}

impl handler::Handler for Mounted {
    fn handle(&self, offer: handler::Offer) -> BoxFuture<'static, handler::Outcome> {
        let next = Next { around: self.around.clone(), passed: 0, handler: self.handler.clone() };
        next.run(Handshake::new(offer, self.handle.clone()))
    }

    /// The client has left, could not be let in, or was closed for what it sent: what `?` hands on.
    fn is_usual(&self, failure: &handler::Failure) -> bool {
        failure.is::<NotAccepted>()
            || matches!(failure.downcast_ref(), Some(PushError::Ended))
            || matches!(failure.downcast_ref(), Some(RecvError::Violation(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Closed;
    use handler::Handler as _;

    #[test]
    fn what_clients_bring_about_by_themselves_is_usual_and_what_a_program_does_is_not() {
        let serve = |_: Handshake| async { Ok(()) };
        let mounted = Mounted { around: Arc::new([]), handler: Arc::new(serve), handle: Handle::default() };
        let closed = Closed { code: 1002, reason: String::new(), cause: "protocol_error".to_owned() };
        for (error, usual) in [
            (Box::<dyn Error + Send + Sync>::from(NotAccepted::Gone), true),
            (NotAccepted::Refused("full".to_owned()).into(), true),
            (PushError::Ended.into(), true),
            (RecvError::Violation(closed).into(), true),
            (PushError::Unfinished.into(), false),
            (PushError::TooBig { size: 2, limit: 1 }.into(), false),
            (RecvError::TimedOut.into(), false),
            ("connection has ended".into(), false),
        ] {
            assert_eq!(mounted.is_usual(&*error), usual, "{error}");
        }
    }
}
