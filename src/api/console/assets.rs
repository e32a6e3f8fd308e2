//! The console's page: plain files that are part of the program, sent as they are.

use super::super::answer::{self, Answer, Content};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use sha1::{Digest, Sha1};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const SVG: &str = "image/svg+xml";

/// What the page may do: run and show what comes from here, and nothing inline; connect to WebSockets anywhere, as the one
/// to try may be behind another name than the API. `http:` and `https:` are for proxies that redirect.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' http: https: ws: wss:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

macro_rules! files {
    ($($media_type:ident $path:literal)*) => {
        /// Every file: its path below `/console/`, its media type, its bytes.
        const FILES: &[(&str, &str, &[u8])] = &[$(($path, $media_type, include_bytes!(concat!("page/", $path))),)*];
    };
}

files! {
    HTML "index.html"
    SVG "icon.svg"
    CSS "console.css"
    JAVASCRIPT "theme.js"
    JAVASCRIPT "storage.js"
    JAVASCRIPT "console.js"
    JAVASCRIPT "api.js"
    JAVASCRIPT "charts.js"
    JAVASCRIPT "connection.js"
    JAVASCRIPT "connect.js"
    JAVASCRIPT "field.js"
    JAVASCRIPT "figures.js"
    JAVASCRIPT "json.js"
    JAVASCRIPT "language.js"
    JAVASCRIPT "log.js"
    JAVASCRIPT "nodes.js"
    JAVASCRIPT "send.js"
    JAVASCRIPT "token.js"
    JSON "languages/en.json"
    JSON "languages/ru.json"
    JSON "languages/uk.json"
    JSON "languages/zh.json"
}

/// One file as it is sent.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
    /// A strong entity tag (RFC 9110, section 8.8.3).
    tag: HeaderValue,
}

/// The files with their tags.
pub(super) struct Assets(Vec<Asset>);

impl Assets {
    pub(super) fn new() -> Self {
        let asset = |&(path, media_type, bytes): &(&'static str, &'static str, &'static [u8])| {
            let digest = Sha1::digest(bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            // Hex digits are always a header value.
            let tag = HeaderValue::try_from(format!("\"{hex}\"")).ok()?;
            Some(Asset { path, media_type, bytes, tag })
        };
        Self(FILES.iter().filter_map(asset).collect())
    }

    /// The file at a path below `/console/`, where the empty path is the page itself; 304 where the browser has it.
    pub(super) fn answer(&self, path: &str, headers: &HeaderMap) -> Answer {
        let path = if path.is_empty() { "index.html" } else { path };
        let Some(asset) = self.0.iter().find(|asset| asset.path == path) else {
            return answer::text(StatusCode::NOT_FOUND, "no such page\n");
        };
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|tags| names(tags.as_bytes(), asset.tag.as_bytes()));
        let mut answer = if known {
            answer::bare(StatusCode::NOT_MODIFIED)
        } else {
            answer::typed(asset.media_type, Content::from(Bytes::from_static(asset.bytes)))
        };
        let headers = answer.headers_mut();
        headers.insert(ETAG, asset.tag.clone());
        // To be asked for each time, as a node may be another version tomorrow; 304 costs next to nothing.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        answer
    }
}

/// Whether an `If-None-Match` has the tag, weak or strong (RFC 9110, section 13.1.2).
fn names(list: &[u8], tag: &[u8]) -> bool {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|one| {
        let one = one.strip_prefix(b"W/").unwrap_or(one);
        one == b"*" || one == tag
    })
}
