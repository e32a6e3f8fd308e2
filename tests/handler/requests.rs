use crate::running::{Lending, Running, quiet};
use crate::support::http::{Answer, Http, get, request};
use crate::support::raw::{Raw, handshake, handshake_with};
use crate::support::{DEADLINE, Listener};
use carillon::{
    Accept, Asking, Handshake, Message, Next, NotAccepted, Outcome, Profile, Request, Response, Server, StatusCode,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A handler that says its name and what it was told of the request.
async fn tell(name: &'static str, handshake: Handshake) -> Outcome {
    let mut connection = handshake.accept().await?;
    let asking = connection.request();
    let header = asking.headers().get("x-from").and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let said = format!(
        "{name} {} {} {} {header} {}",
        asking.path(),
        asking.query().unwrap_or("-"),
        asking.parameter("name").as_deref().unwrap_or("-"),
        asking.address()
    );
    connection.push(said).await?;
    connection.recv().await?;
    Ok(())
}

/// A handler of that name.
macro_rules! telling {
    ($name:literal) => {
        |handshake: Handshake| tell($name, handshake)
    };
}

/// The answer to these header lines of a handshake.
async fn answer(to: SocketAddr, head: &str) -> Answer {
    let mut raw = Raw::connect(to).await;
    raw.send(head.as_bytes()).await;
    raw.answer().await.unwrap()
}

#[tokio::test]
async fn the_longest_beginning_of_a_path_wins_and_slash_is_for_all_others() {
    let builder = Server::builder().limits(quiet());
    let server = Running::start(
        builder
            .handle("/Chat", telling!("chat"))
            .handle("/chat/private", telling!("private"))
            .handle("/ch", telling!("ch"))
            .handle("/", telling!("default")),
    )
    .await;
    for (path, name) in [
        ("/chat", "chat"),
        ("/CHAT/room", "chat"),
        ("/chat/Private/1", "private"),
        ("/chat/privat", "chat"),
        ("/cha", "ch"),
        ("/c", "default"),
        ("/", "default"),
    ] {
        let mut client = Listener::connect(server.address, path).await;
        client.hears_text(&format!("{name} {path} - - - 127.0.0.1")).await;
    }
    let server = Running::start(Server::builder().handle("/chat", telling!("chat"))).await;
    for path in ["/", "/cha", "/other/chat"] {
        assert_eq!(Listener::refused(server.address, path).await.status, 404, "{path}");
        assert_eq!(get(server.address, path).await.unwrap().status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_handler_knows_what_was_asked_for() {
    let server = Running::start(Server::builder().limits(quiet()).handle("/", telling!("it"))).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(handshake_with("/a%20b?name=%D1%97+x&y=1", "X-From: a page\r\nX-Real-IP: 192.0.2.7\r\n").as_bytes()).await;
    raw.until(b"\r\n\r\n").await;
    // From this machine a proxy's word counts, unless the program says otherwise.
    let (_, said) = raw.frame().await;
    assert_eq!(String::from_utf8(said).unwrap(), "it /a%20b name=%D1%97+x&y=1 ї x a page 192.0.2.7");

    for (trusted, address) in
        [("none", "127.0.0.1"), ("192.0.2.0/24", "127.0.0.1"), ("10.0.0.1, 127.0.0.0/8", "192.0.2.7")]
    {
        let builder = Server::builder().limits(quiet()).trusted_proxies(trusted);
        let server = Running::start(builder.handle("/", telling!("it"))).await;
        let mut raw = Raw::connect(server.address).await;
        raw.send(handshake_with("/", "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n").as_bytes()).await;
        raw.until(b"\r\n\r\n").await;
        assert_eq!(raw.frame().await.1, format!("it / - - - {address}").into_bytes(), "{trusted}");
    }
    let Err(error) = Server::builder().trusted_proxies("everybody").start().await else { panic!("it starts") };
    assert!(error.to_string().contains("everybody"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let server = Running::start(Server::builder().handle("/ws", telling!("ws"))).await;
    let good = handshake("/ws");
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    assert!(good.contains(key));
    for (head, status) in [
        (good.replace(key, "c2hvcnQ="), 400),
        (good.replace(&format!("Sec-WebSocket-Key: {key}\r\n"), ""), 400),
        (good.replace("Version: 13", "Version: 12"), 400),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 400),
        (good.replace("GET", "POST"), 400),
        (good.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", ""), 426),
    ] {
        let answer = answer(server.address, &head).await;
        assert_eq!(answer.status, status, "{head}{}", answer.text());
        assert_eq!(answer.header("sec-websocket-accept"), None);
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
    }
    let plain = get(server.address, "/ws").await.unwrap();
    assert_eq!(
        (plain.status, plain.header("upgrade"), plain.header("sec-websocket-version")),
        (426, Some("websocket"), Some("13"))
    );
}

#[tokio::test]
async fn the_answer_has_the_subprotocol_and_the_headers_that_the_handler_wants() {
    let server = Running::start(Server::builder().limits(quiet()).handle("/", |handshake: Handshake| async move {
        let offered: Vec<&str> = handshake.request().subprotocols().collect();
        assert_eq!(offered, ["soap", "chat.v2", "chat.v1"]);
        let header = |name: &'static str| carillon::header::HeaderName::from_static(name);
        let value = |value: &'static str| carillon::header::HeaderValue::from_static(value);
        let accept = Accept::new()
            .subprotocol("chat.v2")
            .header(header("set-cookie"), value("a=1"))
            .header(header("set-cookie"), value("b=2"))
            // What is the handshake's own stays as it is.
            .header(header("sec-websocket-accept"), value("wrong"))
            .header(header("sec-websocket-extensions"), value("permessage-deflate"))
            .header(header("upgrade"), value("h2c"));
        handshake.accept_with(accept).await?.close(1000, "").await;
        Ok(())
    }))
    .await;
    let lines = "Sec-WebSocket-Protocol: soap, chat.v2\r\nSec-WebSocket-Protocol: chat.v1\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let answer = answer(server.address, &handshake_with("/", lines)).await;
    assert_eq!(answer.status, 101);
    let all = |name: &str| {
        let found = answer.headers.iter().filter(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(all("sec-websocket-protocol"), ["chat.v2"]);
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    // RFC 6455, section 1.3.
    assert_eq!(all("sec-websocket-accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    assert_eq!(all("upgrade"), ["websocket"]);
    // Compression is not offered.
    assert_eq!(all("sec-websocket-extensions"), Vec::<&str>::new());
}

#[tokio::test]
async fn middleware_stands_before_handlers_in_the_order_in_which_it_was_added() {
    let (tell, mut told) = mpsc::channel::<&str>(16);
    let (first, second, third) = (tell.clone(), tell.clone(), tell);
    let server = Running::start(
        Server::builder()
            .limits(quiet())
            .middleware(move |handshake: Handshake, next: Next| {
                let tell = first.clone();
                async move {
                    tell.send("outer").await?;
                    let outcome = next.run(handshake).await;
                    tell.send("outer again").await?;
                    outcome
                }
            })
            .middleware(move |handshake: Handshake, next: Next| {
                let tell = second.clone();
                async move {
                    tell.send("inner").await?;
                    if handshake.request().headers().contains_key("authorization") {
                        return next.run(handshake).await;
                    }
                    let realm = carillon::header::HeaderValue::from_static("Basic");
                    let refusal = Response::text(StatusCode::UNAUTHORIZED, "who are you?");
                    handshake.refuse(refusal.header(carillon::header::WWW_AUTHENTICATE, realm));
                    Ok(())
                }
            })
            .handle("/", move |handshake: Handshake| {
                let tell = third.clone();
                async move {
                    tell.send("handler").await?;
                    handshake.accept().await?.close(1000, "").await;
                    Ok(())
                }
            })
            .handle_http("/page", |_| async { Response::html("no middleware here") }),
    )
    .await;
    let refused = answer(server.address, &handshake("/")).await;
    assert_eq!(
        (refused.status, refused.text(), refused.header("www-authenticate")),
        (401, "who are you?", Some("Basic"))
    );
    let answer = answer(server.address, &handshake_with("/", "Authorization: Basic YTpi\r\n")).await;
    assert_eq!(answer.status, 101);
    assert_eq!(get(server.address, "/page").await.unwrap().text(), "no middleware here");
    for wanted in ["outer", "inner", "outer again", "outer", "inner", "handler", "outer again"] {
        assert_eq!(timeout(DEADLINE, told.recv()).await.unwrap(), Some(wanted));
    }
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn requests_that_are_no_handshakes_have_handlers_of_their_own() {
    let server = Running::start(
        Server::builder()
            .handle("/ws", |handshake: Handshake| async move {
                handshake.refuse(Response::text(StatusCode::PAYMENT_REQUIRED, "pay first"));
                Ok(())
            })
            .handle("/silent", |_: Handshake| async { Ok(()) })
            .handle("/both", telling!("both"))
            .profile("/echo", Profile::Channel)
            .handle_http("/both", |_: Request| async { Response::html("<p>both</p>") })
            .handle_http("/json", |_: Request| async { Response::json(&serde_json::json!({"a": [1]})) })
            .handle_http("/gone", |_: Request| async { StatusCode::GONE })
            .handle_http("/", |request: Request| async move {
                let (method, path) = (request.head().method.clone(), request.path().to_owned());
                let name = request.parameter("name").unwrap_or_default();
                let address = request.address();
                match request.body().await {
                    Ok(body) => {
                        let body = String::from_utf8_lossy(&body).into_owned();
                        Response::text(StatusCode::OK, format!("{method} {path} {name} {address} {body}"))
                    }
                    Err(error) => error.into(),
                }
            })
            .limits(carillon::Limits { max_body: 1000, ..quiet() }),
    )
    .await;
    // One connection for all of them.
    let mut http = Http::connect(server.address).await.unwrap();
    let page = http.get("/page?name=a+b").await.unwrap();
    assert_eq!((page.status, page.text()), (200, "GET /page a b 127.0.0.1 "));
    let posted = http.request(&request("POST", "/", &[("X-Real-IP", "192.0.2.1")], b"body")).await.unwrap();
    assert_eq!(posted.text(), "POST /  192.0.2.1 body");
    let page = http.get("/both").await.unwrap();
    assert_eq!((page.text(), page.header("content-type")), ("<p>both</p>", Some("text/html; charset=utf-8")));
    let json = http.get("/JSON").await.unwrap();
    assert_eq!((json.text(), json.header("content-type")), ("{\"a\":[1]}", Some("application/json")));
    assert_eq!(http.get("/gone").await.unwrap().status, 410);
    let mut http = Http::connect(server.address).await.unwrap();
    let long = http.request(&request("POST", "/", &[], &[b'x'; 1001])).await.unwrap();
    assert_eq!((long.status, long.text()), (413, "body is longer than 1000 bytes\n"));
    let mut raw = Raw::connect(server.address).await;
    raw.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 400);

    // Handshakes.
    for (path, status) in [("/ws", 402), ("/silent", 500), ("/page", 200)] {
        assert_eq!(Listener::refused(server.address, path).await.status, status, "{path}");
    }
    Listener::connect(server.address, "/both").await.hears_text("both /both - - - 127.0.0.1").await;
    let mut echo = Listener::connect(server.address, "/echo").await;
    echo.say("one of the profiles").await;
    echo.hears_text("one of the profiles").await;
    // What is no handshake, where there is nothing else.
    for path in ["/ws", "/silent", "/echo"] {
        assert_eq!(get(server.address, path).await.unwrap().status, 426, "{path}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_in_the_end_has_a_reason() {
    // The client goes while the handler thinks.
    let (ask, mut asked) = mpsc::channel::<Handshake>(1);
    let server = Running::start(Server::builder().handle("/", move |handshake: Handshake| {
        let ask = ask.clone();
        async move {
            ask.send(handshake).await?;
            Ok(())
        }
    }))
    .await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(handshake("/").as_bytes()).await;
    let handshake = timeout(DEADLINE, asked.recv()).await.unwrap().unwrap();
    assert_eq!(Asking::path(handshake.request()), "/");
    drop(raw);
    // It is noticed at once, or when the answer can't be sent.
    if let Ok(mut connection) = handshake.accept().await {
        assert_eq!(connection.recv_timeout(DEADLINE).await, Ok(None));
    }

    // The node is full.
    let limits = carillon::Limits { max_connections: 1, ..quiet() };
    let (tell, mut told) = mpsc::channel(2);
    let server = Running::start(Server::builder().limits(limits).handle("/", move |handshake: Handshake| {
        let tell = tell.clone();
        async move {
            match handshake.accept().await {
                Ok(mut connection) => while let Some(Message::Text(_)) = connection.recv().await? {},
                Err(why) => tell.send(why).await?,
            }
            Ok(())
        }
    }))
    .await;
    let client = Listener::connect(server.address, "/").await;
    let refused = Listener::refused(server.address, "/").await;
    assert_eq!(refused.status, 503);
    let why = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
    assert_eq!(why, NotAccepted::Refused(refused.body.trim_end().to_owned()));
    client.close().await;

    // One address has too many; the lending handler keeps them all.
    let builder = Server::builder().limits(carillon::Limits { max_connections_per_address: 1, ..quiet() });
    let mut lending = Lending::with(builder, Accept::new()).await;
    let _held = lending.raw().await;
    assert_eq!(Listener::refused(lending.server.address, "/").await.status, 429);
    assert!(timeout(Duration::from_millis(1), lending.lent()).await.is_err());
}
