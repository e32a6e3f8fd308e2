//! The actions API from its other side: calls as the contract has them, answers as values.

use super::failure::Failure;
use super::http::{Http, is, said, shown};
use crate::cli::ClientOptions;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Request, StatusCode};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use url::Url;
use url::form_urlencoded::Serializer;

/// What a node answers to a call.
#[derive(Deserialize)]
struct Answer {
    status: bool,
    message: Option<String>,
    response: Option<Value>,
}

/// The parameters of a call beside `action`.
pub(super) type Parameters<'a> = [(&'a str, &'a str)];

/// A node's HTTP API.
pub(super) struct Api {
    http: Http,
    base: Url,
    authorization: Option<HeaderValue>,
}

impl Api {
    /// The API that `options` name, with their token.
    pub(super) fn new(options: &ClientOptions) -> Result<Self, Failure> {
        let authorization = token(options)?.map(|token| bearer(&token)).transpose()?;
        let http = Http::new(options.api.scheme() == "https", options.timeout)?;
        Ok(Self { http, base: options.api.clone(), authorization })
    }

    /// For pages of the node on this machine alone: without a token, whatever its certificate.
    pub(super) fn of_this_machine(options: &ClientOptions) -> Result<Self, Failure> {
        let http = Http::to_this_machine(options.timeout, None)?;
        Ok(Self { http, base: options.api.clone(), authorization: None })
    }

    /// A call that only asks: by GET, its parameters in the query. The result is `response`.
    pub(super) async fn ask(&self, action: &str, parameters: &Parameters<'_>) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        url.query_pairs_mut().append_pair("action", action).extend_pairs(parameters);
        let answer = self.call(&url, Request::get(url.as_str()), Bytes::new()).await?;
        answer.response.ok_or_else(|| Failure::refused(format!("{} answered {action} without a response", shown(&url))))
    }

    /// A call that changes something: by POST, its parameters in a form, as URLs end in logs and have limits of length.
    pub(super) async fn tell(&self, action: &str, parameters: &Parameters<'_>) -> Result<(), Failure> {
        let mut url = self.base.clone();
        url.query_pairs_mut().append_pair("action", action);
        let form = Serializer::new(String::new()).extend_pairs(parameters).finish();
        let request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.call(&url, request, Bytes::from(form)).await.map(drop)
    }

    /// Speaks to the node of this machine that has this certificate alone, by whatever name.
    pub(super) fn trust(
        &mut self,
        certificate: CertificateDer<'static>,
        options: &ClientOptions,
    ) -> Result<(), Failure> {
        self.http = Http::to_this_machine(options.timeout, Some(certificate))?;
        Ok(())
    }

    /// Uses this token where the options name none.
    pub(super) fn authorize_unless_told(&mut self, token: &[u8]) -> Result<(), Failure> {
        if self.authorization.is_none() {
            self.authorization = Some(bearer(&String::from_utf8_lossy(token))?);
        }
        Ok(())
    }

    /// The status of an answer to a POST with a JSON body, and its whole text, if it is plain text.
    pub(super) async fn post(&self, url: &Url, body: &Value) -> Result<(StatusCode, Option<String>), Failure> {
        let request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/json");
        let (head, body) = self.send(url, request, Bytes::from(body.to_string())).await?;
        let text = is(&head.headers, "text/plain").then(|| String::from_utf8_lossy(&body).into_owned());
        Ok((head.status, text))
    }

    /// The status of a page and what it says in plain text, if it is plain text; asked without the token.
    pub(super) async fn page(&self, url: &Url) -> Result<(StatusCode, Option<String>), Failure> {
        let request = finished(Request::get(url.as_str()), Bytes::new())?;
        let (head, body) = self.http.send(url, request).await?.into_parts();
        Ok((head.status, said(&head.headers, &self.http.body(url, body).await?)))
    }

    async fn call(&self, url: &Url, request: hyper::http::request::Builder, body: Bytes) -> Result<Answer, Failure> {
        let (head, body) = self.send(url, request, body).await?;
        understood(url, &head, &body)
    }

    /// Sends a request with the token; the head of the answer and its whole body.
    async fn send(
        &self,
        url: &Url,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(Parts, Bytes), Failure> {
        let mut request = finished(request, body)?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let (head, body) = self.http.send(url, request).await?.into_parts();
        let body = self.http.body(url, body).await?;
        Ok((head, body))
    }
}

fn finished(request: hyper::http::request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    request.body(Full::new(body)).map_err(|error| Failure::Usage(format!("can't make a request of it: {error}")))
}

/// Separates what a node answered from what anything else on the way did.
fn understood(url: &Url, head: &Parts, body: &[u8]) -> Result<Answer, Failure> {
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) if head.status.is_server_error() => {
            return Err(Failure::Refused {
                message: format!("{} answered {} and not as the API does", shown(url), head.status),
                advice: Some("a proxy that reaches no node says that, or a node with too many HTTP connections"),
            });
        }
        Err(_) => return Err(Failure::stranger(url, head.status, said(&head.headers, body).as_deref())),
    };
    if answer.status {
        return Ok(answer);
    }
    let message = answer.message.unwrap_or_else(|| "no such connection".into());
    let advice = (message == "access deny")
        .then_some("the node wants its HTTP_TOKEN: give it by --token-file or CARILLON_TOKEN_FILE");
    Err(Failure::Refused { message, advice })
}

/// The token that was given in any way; an empty one is none.
fn token(options: &ClientOptions) -> Result<Option<String>, Failure> {
    let file = options.token_file.as_deref().filter(|file| !file.is_empty());
    let token = match file {
        Some(file) => Some(fs::read_to_string(file).map_err(|error| {
            Failure::Usage(format!("can't read the token file {}: {error}", file.to_string_lossy()))
        })?),
        None => options.token.clone(),
    };
    Ok(token.map(|token| token.trim_end_matches(['\r', '\n']).to_owned()).filter(|token| !token.is_empty()))
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes())
        .map_err(|_| Failure::Usage("the token has a control character, which cannot be sent".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, media_type: &str, body: &str) -> (String, bool) {
        let url = Url::parse("http://localhost:8080/?action=push").unwrap();
        let response = hyper::Response::builder().status(status).header(CONTENT_TYPE, media_type).body(()).unwrap();
        match understood(&url, &response.into_parts().0, body.as_bytes()) {
            Err(Failure::Refused { message, advice }) => (message, advice.is_some()),
            _ => panic!("{body} was not refused"),
        }
    }

    #[test]
    fn a_refusal_says_what_the_node_said() {
        let cases = [
            (r#"{"status":false,"message":"access deny","request":{}}"#, "access deny", true),
            (
                r#"{"status":false,"message":"push not accepted: redis is away","request":[]}"#,
                "push not accepted: redis is away",
                false,
            ),
            (r#"{"status":false,"request":{}}"#, "no such connection", false),
        ];
        for (body, message, advised) in cases {
            assert_eq!(refusal(200, "application/json", body), (message.into(), advised), "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_of_the_api_is_named_and_not_shown_raw() {
        let cases = [
            (404, "text/html", "<html>\nNot Found", "answered 404 Not Found: no Carillon HTTP API answers there"),
            (200, "text/html", "<html>", "answered 200 OK: no Carillon HTTP API answers there"),
            (200, "application/json", "{}", "answered 200 OK: no Carillon HTTP API answers there"),
            (
                426,
                "text/plain",
                "this port speaks websocket\n",
                "answered 426 Upgrade Required (this port speaks websocket): no Carillon HTTP API answers there",
            ),
            (502, "text/html", "<html>", "answered 502 Bad Gateway and not as the API does"),
        ];
        for (status, media_type, body, message) in cases {
            let message = format!("http://localhost:8080/ {message}");
            assert_eq!(refusal(status, media_type, body), (message, true), "{status} {body}");
        }
    }

    #[test]
    fn a_token_is_sent_whole_and_never_shown() {
        let header = bearer("sëcret").unwrap();
        assert_eq!(header.as_bytes(), "Bearer sëcret".as_bytes());
        assert_eq!(format!("{header:?}"), "Sensitive");
        let failure = bearer("sec\nret").unwrap_err().to_string();
        assert!(!failure.contains("sec") && !failure.contains("ret"), "{failure}");
    }
}
