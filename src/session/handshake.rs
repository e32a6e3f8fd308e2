//! The opening handshake (RFC 6455, section 4.2): a request becomes a connection, or is refused.
//!
//! The order is what *101 means subscribed* rests on: the hub takes the connection in, the cluster confirms that it is
//! in the directory and that this node is subscribed to all its audiences, and only then is the handshake answered.

use super::Sessions;
use super::details::{Told, details};
use super::device;
use super::handler::{Route, WebSocket, offer};
use super::hooks::{Opened, Wanted};
use super::member::Member;
use super::profile::Profile;
use super::reader;
use super::refusal::Refusal;
use super::sign_in::{self, SignIn};
use super::steps::Ending;
use crate::auth::ChannelPatterns;
use crate::cluster::Details;
use crate::hub::{CloseReason, Opening, Watch, frame};
use crate::model::{Audience, Name, Opcode, beginning};
use crate::peer::{Crowded, Peer};
use crate::query::Query;
use bytes::Bytes;
use fastwebsockets::WebSocketError;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Version};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Characters of a value that a message shows.
const SHOWN: usize = 40;

/// Answers a WebSocket handshake: 101, and a session that begins when that is written, or a refusal.
///
/// For the WebSocket port, and for an HTTP port that shares it. The request has to come from hyper's
/// `serve_connection(…).with_upgrades()` over a `TokioIo<TcpStream>`. If the future is dropped, as hyper does when the
/// client goes away, nothing of the connection remains.
pub async fn upgrade<B>(request: Request<B>, peer: Peer, sessions: &Arc<Sessions>) -> Response<Bytes> {
    let address = sessions.settings.peers.address(peer, request.headers());
    answer(request, address, sessions).await.unwrap_or_else(|refusal| {
        tracing::debug!(%address, %peer, reason = refusal.label(), "websocket handshake refused: {refusal}");
        sessions.refused.with_label_values(&[refusal.label()]).inc();
        if let Some(reason) = refusal.token_label() {
            sessions.tokens_refused.with_label_values(&[reason]).inc();
        }
        refusal.response()
    })
}

async fn answer<B>(request: Request<B>, address: IpAddr, sessions: &Arc<Sessions>) -> Result<Response<Bytes>, Refusal> {
    let path = request.uri().path();
    let profile = match sessions.settings.routes.websocket(path) {
        Route::To(WebSocket::Handler(handler)) => {
            let handler = handler.clone();
            return Box::pin(offer(request, address, sessions, handler)).await;
        }
        Route::To(WebSocket::Profile(profile)) => Some(*profile),
        Route::Other | Route::Nowhere => return Err(Refusal::Path(shown(path.as_bytes()))),
        Route::Unrouted => sessions.settings.profiles.choose(path),
    };
    Asked::read(request, address, profile, sessions)?.grant(sessions).await
}

/// What every handshake has to pass, whoever serves it then; its query, and the rules for signing in.
pub(super) fn admit<B>(request: &Request<B>, sessions: &Sessions) -> Result<(Query, Arc<SignIn>), Refusal> {
    if *sessions.settings.closed.borrow() {
        return Err(Refusal::Unavailable("node is stopping".to_owned()));
    }
    let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
    if !sessions.settings.allowed_origins.borrow().allow(origin) {
        return Err(Refusal::Origin(shown(origin.unwrap_or_default())));
    }
    let query = Query::parse(request.uri().query().unwrap_or_default().as_bytes())
        .map_err(|error| Refusal::Channels(error.to_string()))?;
    Ok((query, sessions.settings.sign_in.borrow().clone()))
}

/// A handshake that is in order.
struct Asked {
    response: Response<Bytes>,
    upgrade: UpgradeFut,
    profile: Profile,
    address: IpAddr,
    opening: Opening,
    /// Private channels that its token allows, where it can ask for more later.
    allowed: Option<Box<ChannelPatterns>>,
}

impl Asked {
    fn read<B>(
        mut request: Request<B>,
        address: IpAddr,
        profile: Option<Profile>,
        sessions: &Sessions,
    ) -> Result<Self, Refusal> {
        check(&request)?;
        let (query, sign_in) = admit(&request, sessions)?;
        let path = request.uri().path();
        let Some(profile) = profile else { return Err(Refusal::Path(shown(path.as_bytes()))) };
        let claims = sign_in.claims(profile, &query, request.headers(), SystemTime::now())?;
        let mut audiences = channels(&query, sessions.limits.max_channels)?;
        sign_in.check(claims.as_ref(), &audiences)?;
        audiences.extend(claims.iter().flat_map(sign_in::audiences));
        if profile == Profile::Device {
            let brought = device::stable_id(&query).map_err(Refusal::Device)?;
            audiences.extend(sign_in.device(brought, claims.as_ref())?.map(Audience::device));
        }
        let asks_later = profile == Profile::Device && sessions.settings.client_documents.is_some();
        let allowed = claims.as_ref().filter(|_| asks_later).map(|claims| Box::new(claims.channels.clone()));
        let wanted = sessions.wanted(profile);
        let path = (wanted != Wanted::NOTHING).then_some(path);
        let told = Told { profile, address, query: &query, path, claims: claims.as_ref() };
        let details = details(&told, [sessions.token_param.as_str(), sign_in.parameter.as_str()]);
        let watch = if wanted.includes(Wanted::CLOSE) { Watch::Kept } else { Watch::No };
        let opening = Opening {
            details: if watch == Watch::Kept { Details::owing_close(&details).into() } else { details },
            audiences,
            heartbeat: sessions.heartbeats.of(profile),
            watch,
        };
        let (response, upgrade) = fastwebsockets::upgrade::upgrade(&mut request).map_err(|error| match error {
            WebSocketError::InvalidSecWebsocketVersion => Refusal::Version,
            _ => Refusal::Malformed("websocket handshake is malformed"),
        })?;
        Ok(Self { response: response.map(|_| Bytes::new()), upgrade, profile, address, opening, allowed })
    }

    /// Hub first, then the cluster, then the application, then the answer.
    async fn grant(self, sessions: &Arc<Sessions>) -> Result<Response<Bytes>, Refusal> {
        let Self { response, upgrade, profile, address, opening, allowed } = self;
        let audiences = opening.audiences.clone();
        let place = sessions.places.take(address).map_err(|Crowded| Refusal::Crowded(address))?;
        let mut member = Member::open(sessions.clone(), profile, place, opening).map_err(|_| Refusal::Full)?;
        member.allow(allowed);
        let limit = sessions.limits.connect_timeout;
        settle(sessions, &audiences, limit).await.map_err(Refusal::Unavailable)?;
        let member = if member.wants(Wanted::OPEN) { welcomed(member).await? } else { member };
        tokio::spawn(reader::run(member, upgrade, None));
        Ok(response)
    }
}

/// Asks the application whether it wants the connection, and sends what it answers. By a task of its own: a client that goes
/// away in the meantime takes its handshake with it, and the application is to hear of its end after it has answered.
async fn welcomed(member: Member) -> Result<Member, Refusal> {
    let asked = tokio::spawn(Box::pin(ask(member))).await;
    asked.unwrap_or_else(|error| Err(Refusal::NoAnswer(error.to_string())))
}

async fn ask(mut member: Member) -> Result<Member, Refusal> {
    let (Some(hooks), Some(occasion)) = (member.hooks(), member.occasion()) else { return Ok(member) };
    member.asked();
    let answer = match hooks.open(occasion).await {
        Opened::Accepted(answer) => answer,
        Opened::Refused(status, message) => {
            member.refused();
            return Err(Refusal::Application(status, message));
        }
        Opened::Failed(why) => return Err(Refusal::NoAnswer(why)),
    };
    // They wait for the socket, as pushes do.
    for text in &answer.replies {
        drop(member.send(frame::message(Opcode::Text, text.as_bytes())));
    }
    if let Some((code, reason)) = answer.close {
        drop(member.end(Ending::new(code, &reason, CloseReason::Api)));
    }
    Ok(member)
}

pub(super) async fn settle(sessions: &Sessions, audiences: &[Audience], limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, sessions.cluster.settle(audiences)).await {
        Ok(settled) => settled.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no confirmation within {} ms", limit.as_millis())),
    }
}

/// What section 4.2.1 asks of a client's handshake, as far as fastwebsockets doesn't check it.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    if !is_upgrade_request(request) {
        return Err(Refusal::NotWebSocket);
    }
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(Refusal::Malformed("a websocket handshake is a GET request of http/1.1"));
    }
    let headers = request.headers();
    if has_body(headers) {
        return Err(Refusal::Malformed("a websocket handshake has no body"));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).into_iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => {}
        _ => return Err(Refusal::Malformed("sec-websocket-key is not one base64 text of 16 bytes")),
    }
    if !headers.contains_key(header::SEC_WEBSOCKET_VERSION) {
        return Err(Refusal::Malformed("sec-websocket-version is missing"));
    }
    Ok(())
}

/// A body's bytes would be taken for frames.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// Whether it is 16 bytes in base64: 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22
        && digits.iter().all(|digit| digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/')))
}

/// The channels that a query names by `channel[]=a&channel[]=b`, `channel[0]=a` or `channel=a`, each once. An empty name
/// is no name: a template that had nothing to fill in subscribes to nothing.
fn channels(query: &Query, at_most: usize) -> Result<Vec<Audience>, Refusal> {
    let Some(value) = query.get("channel") else { return Ok(Vec::new()) };
    let names = value.as_texts().ok_or_else(|| Refusal::Channels("channel is not a list of names".to_owned()))?;
    let mut channels = Vec::with_capacity(names.len().min(at_most));
    let mut known = std::collections::HashSet::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let refuse = |why: &dyn std::fmt::Display| Refusal::Channels(format!("channel {:?}: {why}", shown(name)));
        let text = std::str::from_utf8(name).map_err(|_| refuse(&"name is not utf-8"))?;
        let channel = Name::new(text).map_err(|error| refuse(&error))?;
        if !known.insert(channel.clone()) {
            continue;
        }
        if channels.len() == at_most {
            return Err(Refusal::Channels(format!("more than {at_most} channels")));
        }
        channels.push(Audience::channel(channel));
    }
    Ok(channels)
}

/// A client's value as a message shows it: its beginning.
pub(super) fn shown(value: &[u8]) -> String {
    beginning(&String::from_utf8_lossy(value), SHOWN).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Result<Vec<String>, String> {
        let query = Query::parse(query.as_bytes()).map_err(|error| error.to_string())?;
        let channels = channels(&query, 3).map_err(|refusal| refusal.to_string())?;
        Ok(channels.iter().map(|channel| channel.to_string()).collect())
    }

    #[test]
    fn a_query_names_channels_as_php_clients_write_them() {
        let cases: [(&str, &[&str]); 11] = [
            ("", &[]),
            ("channels[]=a", &[]),
            ("channel[]=a&channel[]=b", &["channel:a", "channel:b"]),
            ("channel%5B%5D=a", &["channel:a"]),
            ("channel[0]=a&channel[7]=b", &["channel:a", "channel:b"]),
            ("channel=a", &["channel:a"]),
            ("channel=a&channel=b", &["channel:b"]),
            ("channel[]=a&channel[]=a&channel[]=a&channel[]=a", &["channel:a"]),
            ("channel[]=a+b&channel[]=%D1%97", &["channel:a b", "channel:ї"]),
            ("channel[]=ї&x=y", &["channel:ї"]),
            ("channel=&channel[]=&channel[]=a", &["channel:a"]),
        ];
        for (query, expected) in cases {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(names(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_channel_that_can_not_be_is_named() {
        let long = "n".repeat(201);
        let cases = [
            (format!("channel[]=a&channel[]={long}"), {
                format!("channel \"{}…\": name is longer than 200 bytes", "n".repeat(SHOWN))
            }),
            ("channel=a%00b".to_owned(), "channel \"a\\0b\": name has a control character".to_owned()),
            ("channel=%FF".to_owned(), "channel \"\u{fffd}\": name is not utf-8".to_owned()),
            ("channel[k]=v".to_owned(), "channel is not a list of names".to_owned()),
            ("channel[0][0]=v".to_owned(), "channel is not a list of names".to_owned()),
            ("channel[]=1&channel[]=2&channel[]=3&channel[]=4".to_owned(), "more than 3 channels".to_owned()),
        ];
        for (query, message) in cases {
            assert_eq!(names(&query), Err(message), "{query}");
        }
        assert_eq!(names("channel[]=1&channel[]=2&channel[]=3&channel[]=3").map(|names| names.len()), Ok(3));
    }

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25j*Q==",
        ] {
            assert!(!is_key(bad.as_bytes()), "{bad:?}");
        }
    }
}
