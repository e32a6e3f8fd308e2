//! Which path has which handler.

use super::Handler;
use crate::session::PlainHttp;
use crate::session::profile::Profile;
use std::sync::Arc;

/// Answers requests that are no WebSocket handshake.
pub type HttpHandler = PlainHttp;

/// Handlers by the beginnings of paths. The longest that fits wins; upper and lower case are one.
#[derive(Clone, Default)]
pub struct Routes {
    /// The longest first.
    by_prefix: Vec<(String, Entry)>,
    /// There is nothing beside them, even where there are none.
    alone: bool,
}

#[derive(Clone, Default)]
struct Entry {
    websocket: Option<WebSocket>,
    http: Option<HttpHandler>,
}

/// What a WebSocket handshake leads to.
#[derive(Clone)]
pub(in crate::session) enum WebSocket {
    /// A program's own code.
    Handler(Arc<dyn Handler>),
    /// The rules of a profile.
    Profile(Profile),
}

/// What a path leads to.
pub(in crate::session) enum Route<T> {
    /// This.
    To(T),
    /// There is something at this path, but not for such a request.
    Other,
    /// Nothing: 404.
    Nowhere,
    /// There are no routes at all, so that the profiles' rules count.
    Unrouted,
}

impl Routes {
    /// None yet; a path that has none is answered with 404.
    pub fn alone() -> Self {
        Self { alone: true, ..Self::default() }
    }

    /// WebSocket connections whose paths begin so are served by this handler.
    pub fn handle(&mut self, prefix: &str, handler: Arc<dyn Handler>) {
        self.entry(prefix).websocket = Some(WebSocket::Handler(handler));
    }

    /// WebSocket connections whose paths begin so have a profile's rules.
    pub fn profile(&mut self, prefix: &str, profile: Profile) {
        self.entry(prefix).websocket = Some(WebSocket::Profile(profile));
    }

    /// Other requests whose paths begin so are answered by this handler.
    pub fn http(&mut self, prefix: &str, handler: HttpHandler) {
        self.entry(prefix).http = Some(handler);
    }

    /// Whether there is any for requests that are no handshakes.
    pub(in crate::session) fn have_http(&self) -> bool {
        self.by_prefix.iter().any(|(_, entry)| entry.http.is_some())
    }

    fn entry(&mut self, prefix: &str) -> &mut Entry {
        let prefix = prefix.to_lowercase();
        let at = match self.by_prefix.iter().position(|(known, _)| *known == prefix) {
            Some(at) => at,
            None => {
                let at = self.by_prefix.iter().take_while(|(known, _)| known.len() >= prefix.len()).count();
                self.by_prefix.insert(at, (prefix, Entry::default()));
                at
            }
        };
        &mut self.by_prefix[at].1
    }

    fn find(&self, path: &str) -> Option<&Entry> {
        let path = path.to_lowercase();
        self.by_prefix.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, entry)| entry)
    }

    fn route<'a, T>(&'a self, path: &str, of: impl Fn(&'a Entry) -> Option<&'a T>) -> Route<&'a T> {
        if self.by_prefix.is_empty() && !self.alone {
            return Route::Unrouted;
        }
        match self.find(path) {
            None => Route::Nowhere,
            Some(entry) => of(entry).map_or(Route::Other, Route::To),
        }
    }

    /// What a handshake leads to.
    pub(in crate::session) fn websocket(&self, path: &str) -> Route<&WebSocket> {
        self.route(path, |entry| entry.websocket.as_ref())
    }

    /// Who answers a request; where the path has a handler for requests alone, a handshake is one.
    pub(in crate::session) fn plain(&self, path: &str, is_handshake: bool) -> Option<&HttpHandler> {
        let entry = self.find(path)?;
        entry.http.as_ref().filter(|_| !is_handshake || entry.websocket.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads_to(routes: &Routes, path: &str) -> &'static str {
        match routes.websocket(path) {
            Route::To(WebSocket::Profile(profile)) => profile.as_str(),
            Route::To(WebSocket::Handler(_)) => "handler",
            Route::Other => "other",
            Route::Nowhere => "nowhere",
            Route::Unrouted => "unrouted",
        }
    }

    #[test]
    fn the_longest_beginning_wins_whatever_its_case_and_order() {
        let mut routes = Routes::default();
        assert_eq!(leads_to(&routes, "/"), "unrouted");
        routes.profile("/a", Profile::Center);
        routes.profile("/A/b", Profile::Device);
        routes.profile("/ab", Profile::Method);
        routes.http("/a/b/c", Arc::new(|_, _| Box::pin(std::future::pending())));
        for (path, wanted) in [
            ("/a", "center"),
            ("/A/x", "center"),
            ("/a/B", "device"),
            ("/a/bb", "device"),
            ("/ABc", "method"),
            ("/a/b/c", "other"),
            ("/", "nowhere"),
            ("/b", "nowhere"),
        ] {
            assert_eq!(leads_to(&routes, path), wanted, "{path}");
        }
        assert!(routes.plain("/a/b/c/d", true).is_some() && routes.plain("/a", false).is_none());
        routes.profile("/a/b/c", Profile::Channel);
        assert_eq!(leads_to(&routes, "/a/b/c"), "channel");
        assert!(routes.plain("/a/b/c", true).is_none() && routes.plain("/a/b/c", false).is_some());
        routes.profile("", Profile::Channel);
        assert_eq!(leads_to(&routes, "/b"), "channel");
    }
}
