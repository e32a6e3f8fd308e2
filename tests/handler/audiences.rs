use crate::receiving::next;
use crate::running::{Lending, quiet};
use crate::support::raw::{Raw, masked};
use crate::support::{DEADLINE, RedisServer, eventually, eventually::same};
use carillon::{Accept, Audience, Connection, Error, Handle, Limits, Name, Push, Server, Target, channel, group, user};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A client, its connection, and the node that it is on.
struct Client {
    raw: Raw,
    connection: Connection,
}

impl Client {
    async fn of(lending: &mut Lending) -> Self {
        let (raw, connection) = lending.raw().await;
        Self { raw, connection }
    }

    async fn hears(&mut self, text: &str) {
        assert_eq!(self.raw.frame().await, (0x81, text.as_bytes().to_vec()));
    }
}

async fn publish(cluster: &Handle, push: Push) {
    assert!(cluster.publish(push).await.unwrap());
}

/// Memberships, pushes and reads with clients of two nodes, or of one that is asked twice.
async fn rings_every_bell(one: &mut Lending, two: &mut Lending) {
    let (here, there) = (one.server.cluster.clone(), two.server.cluster.clone());
    let mut ann = Client::of(one).await;
    let mut bob = Client::of(two).await;
    let mut cy = Client::of(two).await;
    let (a, b, c) = (ann.connection.id(), bob.connection.id(), cy.connection.id());
    let (news, team) = (channel("news").unwrap(), group("team").unwrap());

    // What the connection does itself.
    for client in [&ann, &bob, &cy] {
        client.connection.join(news.clone()).await.unwrap();
        client.connection.join(news.clone()).await.unwrap();
    }
    ann.connection.join(team.clone()).await.unwrap();
    ann.connection.bind(name("ann")).await.unwrap();
    // And what others have done with it, on whichever node.
    assert!(here.join(b, team.clone()).await.unwrap());
    assert!(here.bind(b, name("bob")).await.unwrap());
    assert!(there.bind(c, name("somebody")).await.unwrap());
    assert!(!here.bind(c, name("cy")).await.unwrap(), "a user's connection was taken from it");
    assert!(here.unbind(c).await.unwrap() && !here.unbind(c).await.unwrap());
    cy.connection.bind(name("nobody")).await.unwrap();
    cy.connection.bind(name("cy")).await.unwrap();

    // Reads, from either side.
    for cluster in [&here, &there] {
        let sorted = |mut ids: Vec<_>| {
            ids.sort();
            ids
        };
        assert_eq!(cluster.count().await.unwrap(), 3);
        assert_eq!(sorted(cluster.connections().await.unwrap()), sorted(vec![a, b, c]));
        assert_eq!(sorted(cluster.members(&news).await.unwrap()), sorted(vec![a, b, c]));
        assert_eq!(cluster.count_members(&team).await.unwrap(), 2);
        assert_eq!(cluster.members(&user("cy").unwrap()).await.unwrap(), [c]);
        assert_eq!(cluster.channels().await.unwrap(), [(name("news"), 3)]);
        assert_eq!(cluster.groups().await.unwrap(), [(name("team"), 2)]);
        assert_eq!(cluster.users().await.unwrap(), [(name("ann"), 1), (name("bob"), 1), (name("cy"), 1)]);
        assert!(cluster.exists(b).await.unwrap());
    }

    // To everybody, an audience, several, a connection; with and without exclusions.
    here.broadcast("all").await.unwrap();
    for client in [&mut ann, &mut bob, &mut cy] {
        client.hears("all").await;
    }
    publish(&there, Push::text(news.clone(), "news")).await;
    for client in [&mut ann, &mut bob, &mut cy] {
        client.hears("news").await;
    }
    publish(&here, Push::text(news.clone(), "not for bob").except(b)).await;
    publish(&there, Push::text(Target::All, "not for ann").except_user(name("ann"))).await;
    publish(&here, Push::text(team.clone(), "team")).await;
    publish(&here, Push::text(user("bob").unwrap(), "bob")).await;
    publish(&here, Push::text(c, "cy")).await;
    publish(&there, Push::binary(a, "a".to_owned())).await;
    let several = Target::Audiences(vec![team.clone(), news.clone()]);
    publish(&here, Push::text(several, "once each")).await;
    let mut heard = Vec::new();
    for (client, count) in [(&mut ann, 4), (&mut bob, 4), (&mut cy, 4)] {
        let mut texts = Vec::new();
        for _ in 0..count {
            let (_, payload) = client.raw.frame().await;
            texts.push(String::from_utf8(payload).unwrap());
        }
        // From two publishers, between whom there is no order.
        texts.sort();
        heard.push(texts);
    }
    assert_eq!(heard[0], ["a", "not for bob", "once each", "team"]);
    assert_eq!(heard[1], ["bob", "not for ann", "once each", "team"]);
    assert_eq!(heard[2], ["cy", "not for ann", "not for bob", "once each"]);

    // Out again.
    ann.connection.leave(news.clone()).await.unwrap();
    ann.connection.leave(channel("other").unwrap()).await.unwrap();
    ann.connection.unbind().await.unwrap();
    assert!(here.leave(b, news.clone()).await.unwrap());
    assert_eq!(there.members(&news).await.unwrap(), [c]);
    assert_eq!(there.count_members(&user("ann").unwrap()).await.unwrap(), 0);
    publish(&here, Push::text(news.clone(), "cy alone")).await;
    cy.hears("cy alone").await;

    // Closed by the other node, and gone.
    assert!(here.close(c, 4000, "enough").await.unwrap());
    assert_eq!(cy.raw.close_code().await, Some((4000, "enough".to_owned())));
    cy.raw.send(&masked(0x88, &4000u16.to_be_bytes())).await;
    assert_eq!(next(&mut cy.connection).await, Ok(None));
    assert_eq!(cy.connection.closed().unwrap().code, 4000);
    let gone: [bool; 6] = [
        here.exists(c).await.unwrap(),
        here.join(c, news.clone()).await.unwrap(),
        here.leave(c, news.clone()).await.unwrap(),
        here.bind(c, name("cy")).await.unwrap(),
        here.close(c, 4000, "").await.unwrap(),
        here.publish(Push::text(c, "late")).await.unwrap(),
    ];
    assert_eq!(gone, [false; 6]);
    drop((ann, bob));
    eventually("everybody is gone", DEADLINE, async || same(here.count().await.map_err(|error| error.to_string())?, 0))
        .await;
    assert_eq!(there.channels().await.unwrap(), []);
}

#[tokio::test]
async fn a_connection_is_a_member_wherever_it_is() {
    let redis = RedisServer::start().await;
    let on_redis = || Server::builder().limits(quiet()).redis(redis.url());
    let mut one = Lending::with(on_redis(), Accept::new()).await;
    let mut two = Lending::with(on_redis(), Accept::new()).await;
    for lending in [&one, &two] {
        eventually("the node is in the cluster", DEADLINE, async || {
            lending.server.cluster.count().await.map_err(|error| error.to_string())
        })
        .await;
    }
    rings_every_bell(&mut one, &mut two).await;
    // The other one goes on without it.
    two.server.stopped().await;
    let (mut raw, connection) = one.raw().await;
    connection.join(channel("news").unwrap()).await.unwrap();
    publish(connection.cluster(), Push::text(channel("news").unwrap(), "alone")).await;
    assert_eq!(raw.frame().await, (0x81, b"alone".to_vec()));
}

#[tokio::test]
async fn who_is_let_in_as_a_member_misses_nothing() {
    let everybody = channel("everybody").unwrap();
    let accept = Accept::new().join(everybody.clone()).join(group("all").unwrap()).bind(name("ann"));
    let mut lending = Lending::with(Server::builder().limits(quiet()), accept).await;
    let cluster = lending.server.cluster.clone();
    for number in 0..20 {
        let (mut raw, connection) = lending.raw().await;
        // Published right after the 101.
        publish(&cluster, Push::text(everybody.clone(), format!("hello {number}"))).await;
        assert_eq!(raw.frame().await, (0x81, format!("hello {number}").into_bytes()));
        assert_eq!(cluster.members(&user("ann").unwrap()).await.unwrap(), [connection.id()]);
        assert!(cluster.close(connection.id(), 1000, "").await.unwrap());
    }
}

#[tokio::test]
async fn what_can_not_be_is_said() {
    let mut lending = Lending::start(Limits { max_channels: 2, max_push: 100, ..quiet() }).await;
    let (_raw, connection) = lending.raw().await;
    let numbered = |number: u32| -> Audience { channel(&format!("channel {number}")).unwrap() };
    for number in 0..2 {
        connection.join(numbered(number)).await.unwrap();
    }
    assert!(matches!(connection.join(numbered(2)).await, Err(Error::Limit(_))));
    assert!(matches!(connection.cluster().join(connection.id(), numbered(2)).await, Err(Error::Limit(_))));
    assert_eq!(connection.cluster().channels().await.unwrap().len(), 2);
    let long = Push::text(Target::All, "t".repeat(101));
    assert!(matches!(connection.cluster().publish(long).await, Err(Error::Limit(_))));
    assert!(channel("").is_err() && group(&"n".repeat(201)).is_err() && user("a\0b").is_err());
}
