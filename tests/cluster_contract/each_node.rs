//! What is asked of each node for itself: acts with an outcome from each, questions with an answer from each.

use crate::node::{Client, Node, channel, group, user};
use carillon::cluster::{Act, Answer, Outcome, Question};
use carillon::hub::Opening;
use carillon::model::{Audience, AudienceKind, ConnectionId, Exclusions, Name, Push, Seq, Target, Who};
use std::collections::{BTreeMap, BTreeSet};

/// What `expected` says for some nodes, and `others` for the rest.
fn assert_each<T: Clone + PartialEq + std::fmt::Debug>(all: &BTreeMap<Seq, T>, expected: &[(Seq, T)], others: &T) {
    let expected: BTreeMap<Seq, T> = expected.iter().cloned().collect();
    for (seq, said) in all {
        assert_eq!(said, expected.get(seq).unwrap_or(others), "node {seq} of {all:?}");
    }
    assert!(expected.keys().all(|seq| all.contains_key(seq)), "{all:?}");
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn bind(client: &Client, user: &str) -> Act {
    Act::Bind { connection: client.id, user: name(user) }
}

fn join(who: impl Into<Who>, audiences: &[Audience]) -> Act {
    Act::Join { who: who.into(), audiences: audiences.to_vec() }
}

fn leave(who: impl Into<Who>, audiences: &[Audience]) -> Act {
    Act::Leave { who: who.into(), audiences: audiences.to_vec() }
}

fn deliver(target: Target, text: &str) -> Act {
    Act::Deliver(Push::text(target, text))
}

/// An id that was never given out, of a node that is there.
fn nobody(node: &Node) -> ConnectionId {
    ConnectionId::new(node.seq(), 0)
}

pub(crate) async fn connections_are_bound_and_unbound_from_any_node(a: Node, b: Node) {
    let (first, second, other) = (a.connect(&[]).await, b.connect(&[]).await, b.connect(&[]).await);
    let ann = user("ann");
    for client in [&first, &second] {
        assert_each(&b.act_one(bind(client, "ann")).await, &[(client.id.seq(), Outcome::Done(1))], &Outcome::Unknown);
        let again = a.act_one(bind(client, "bob")).await;
        assert_each(&again, &[(client.id.seq(), Outcome::Done(0))], &Outcome::Unknown);
    }
    a.act_one(bind(&other, "otto")).await;
    let unknown = a.act_one(Act::Bind { connection: nobody(&b), user: name("ann") }).await;
    assert_each(&unknown, &[], &Outcome::Unknown);
    assert_eq!(a.members(&ann).await, BTreeSet::from([first.id, second.id]));
    let Answer::Details(Some(details)) = &b.look(Question::Details(first.id)).await[&a.seq()] else { panic!() };
    assert_eq!(details.user.as_deref(), Some("ann"));

    let unbind = Act::LeaveAll { who: first.id.into(), kind: AudienceKind::User };
    assert_each(&b.act_one(unbind.clone()).await, &[(a.seq(), Outcome::Done(1))], &Outcome::Unknown);
    assert_each(&b.act_one(unbind).await, &[(a.seq(), Outcome::Done(0))], &Outcome::Unknown);
    assert_eq!(a.members(&ann).await, BTreeSet::from([second.id]));
    let unbind = Act::LeaveAll { who: ann.clone().into(), kind: AudienceKind::User };
    assert_each(&a.act_one(unbind.clone()).await, &[(b.seq(), Outcome::Done(1))], &Outcome::Unknown);
    assert_each(&a.act_one(unbind).await, &[], &Outcome::Unknown);
    assert_eq!(a.members(&user("otto")).await, BTreeSet::from([other.id]));
    let Answer::Details(Some(details)) = &b.look(Question::Details(second.id)).await[&b.seq()] else { panic!() };
    assert_eq!(details.user, None);
}

pub(crate) async fn groups_are_joined_by_connection_and_by_user(a: Node, b: Node) {
    let (mut first, mut second) = (a.connect(&[]).await, b.connect(&[]).await);
    let (red, blue) = (group("red"), group("blue"));
    b.act_each(&[bind(&first, "ann"), bind(&second, "ann")]).await;
    let joined = b.act_one(join(user("ann"), &[red.clone(), blue.clone()])).await;
    let one_each = if joined.len() == 1 { 4 } else { 2 };
    assert_each(&joined, &[], &Outcome::Done(one_each));
    assert_each(&a.act_one(join(user("ann"), std::slice::from_ref(&red))).await, &[], &Outcome::Done(0));
    assert_each(&a.act_one(join(user("nobody"), std::slice::from_ref(&red))).await, &[], &Outcome::Unknown);
    assert_eq!(b.members(&red).await, BTreeSet::from([first.id, second.id]));
    a.push(Target::Audience(blue.clone()), "blue").await;
    assert_eq!((first.text().await, second.text().await), ("blue".to_owned(), "blue".to_owned()));

    // Unbinding keeps the groups.
    b.act_one(Act::LeaveAll { who: first.id.into(), kind: AudienceKind::User }).await;
    assert_eq!(a.members(&blue).await, BTreeSet::from([first.id, second.id]));
    let left = b.act_one(leave(first.id, std::slice::from_ref(&blue))).await;
    assert_each(&left, &[(a.seq(), Outcome::Done(1))], &Outcome::Unknown);
    let none = b.act_one(leave(first.id, &[group("none")])).await;
    assert_each(&none, &[(a.seq(), Outcome::NoAudience)], &Outcome::Unknown);
    let left = a.act_one(Act::LeaveAll { who: second.id.into(), kind: AudienceKind::Group }).await;
    assert_each(&left, &[(b.seq(), Outcome::Done(2))], &Outcome::Unknown);
    assert_eq!(a.members(&red).await, BTreeSet::from([first.id]));
    assert_eq!(b.cluster.audiences(AudienceKind::Group).await.unwrap(), [(red.name.clone(), 1)]);
    let gone = a.act_one(Act::Close { who: red.into(), code: 1000, reason: String::new() }).await;
    assert_each(&gone, &[(a.seq(), Outcome::Done(1))], &Outcome::Done(0));
    assert_eq!(b.cluster.audiences(AudienceKind::Group).await.unwrap(), []);
}

pub(crate) async fn a_batch_is_carried_out_one_after_the_other(a: Node, b: Node) {
    let (mut first, mut second) = (a.connect(&[]).await, b.connect(&[]).await);
    let room = group("room");
    let acts = [
        deliver(Target::Audience(room.clone()), "nobody yet"),
        bind(&first, "ann"),
        bind(&second, "ann"),
        join(user("ann"), std::slice::from_ref(&room)),
        deliver(Target::Audience(room.clone()), "1"),
        leave(second.id, std::slice::from_ref(&room)),
        deliver(Target::Audience(room.clone()), "2"),
        deliver(Target::Connection(second.id), "3"),
        deliver(Target::Audience(user("ann")), "4"),
        deliver(Target::All, "5"),
    ];
    let sums: Vec<u64> = {
        let all = b.act_each(&acts).await;
        let done = |at: usize| all.values().map(move |outcomes| outcomes[at].clone());
        let count = |outcome| if let Outcome::Done(count) = outcome { count } else { 0 };
        (0..acts.len()).map(|at| done(at).map(count).sum()).collect()
    };
    assert_eq!(sums, [0, 1, 1, 2, 2, 1, 1, 1, 2, 2]);
    for expected in ["1", "2", "4", "5"] {
        assert_eq!(first.text().await, expected);
    }
    for expected in ["1", "3", "4", "5"] {
        assert_eq!(second.text().await, expected);
    }
    assert_eq!(a.members(&room).await, BTreeSet::from([first.id]));
}

pub(crate) async fn what_each_node_holds_is_told_node_by_node(a: Node, b: Node) {
    let (ann, red) = (user("ann"), group("red {x} ї"));
    let first = a.connect(&[ann.clone(), red.clone(), channel("c")]).await;
    let second = b.connect(std::slice::from_ref(&ann)).await;
    let third = b.connect(&[user("bob"), red.clone()]).await;
    let on = |node: &Node, clients: &[&Client]| {
        let own = clients.iter().filter(|client| client.id.seq() == node.seq());
        own.map(|client| client.id.counter()).collect::<BTreeSet<u32>>()
    };
    let here = |node: &Node, clients: &[&Client]| on(node, clients).len() as u64;
    for asker in [&a, &b] {
        for node in [&a, &b] {
            let ask = async |question| asker.look(question).await.remove(&node.seq()).unwrap();
            let everybody = [&first, &second, &third];
            assert_eq!(ask(Question::Connections).await, Answer::Count(here(node, &everybody)));
            assert_eq!(ask(Question::Members(red.clone())).await, Answer::Count(here(node, &[&first, &third])));
            assert_eq!(ask(Question::Members(user("nobody"))).await, Answer::Count(0));
            let Answer::Ids(ids) = ask(Question::ConnectionIds).await else { panic!() };
            assert_eq!(ids.into_iter().collect::<BTreeSet<u32>>(), on(node, &everybody));
            let Answer::Ids(ids) = ask(Question::MemberIds(ann.clone())).await else { panic!() };
            assert_eq!(ids.into_iter().collect::<BTreeSet<u32>>(), on(node, &[&first, &second]));
            let shared = ask(Question::SharedMember(ann.clone(), red.clone())).await;
            assert_eq!(shared, Answer::Count(here(node, &[&first])));
            let mut users = Vec::new();
            if here(node, &[&first, &second]) > 0 {
                users.push((name("ann"), here(node, &[&first, &second])));
            }
            if here(node, &[&third]) > 0 {
                users.push((name("bob"), 1));
            }
            assert_eq!(ask(Question::AudienceCount(AudienceKind::User)).await, Answer::Count(users.len() as u64));
            assert_eq!(ask(Question::Audiences(AudienceKind::User)).await, Answer::Names(users));
            for (kind, members) in [
                (AudienceKind::User, &[&first, &second, &third][..]),
                (AudienceKind::Group, &[&first, &third]),
                (AudienceKind::Device, &[]),
            ] {
                let Answer::Ids(ids) = ask(Question::MemberIdsOfAll(kind)).await else { panic!() };
                assert_eq!(ids.into_iter().collect::<BTreeSet<u32>>(), on(node, members), "{kind}");
            }
            let mut users = Vec::new();
            if here(node, &[&first]) > 0 {
                users.push((name("ann"), 0));
            }
            if here(node, &[&third]) > 0 {
                users.push((name("bob"), 0));
            }
            let asked = Question::AudiencesOfMembers(red.clone(), AudienceKind::User);
            assert_eq!(ask(asked).await, Answer::Names(users));
            let groups = Question::AudiencesOfMembers(ann.clone(), AudienceKind::Group);
            let expected = if here(node, &[&first]) > 0 { vec![(red.name.clone(), 0)] } else { Vec::new() };
            assert_eq!(ask(groups).await, Answer::Names(expected));
            let Answer::Details(details) = ask(Question::Details(first.id)).await else { panic!() };
            assert_eq!(details.is_some(), here(node, &[&first]) == 1);
            let groups = details.map(|details| (details.user, details.groups));
            assert!(groups.is_none_or(|it| it == (Some("ann".to_owned()), vec!["red {x} ї".to_owned()])));
            assert_eq!(ask(Question::Details(nobody(&a))).await, Answer::Details(None));
        }
    }
}

pub(crate) async fn deliveries_are_counted_node_by_node(a: Node, b: Node) {
    let (ann, red, blue) = (user("ann"), group("red"), group("blue"));
    let mut first = a.connect(&[ann.clone(), red.clone(), blue.clone()]).await;
    let mut second = b.connect(std::slice::from_ref(&red)).await;
    let mut third = b.connect(std::slice::from_ref(&blue)).await;
    let sum = async |act: Act| {
        let all = b.act_one(act).await;
        let count = |outcome: &Outcome| if let Outcome::Done(count) = outcome { *count } else { panic!("{all:?}") };
        all.values().map(count).sum::<u64>()
    };
    let both = Target::Audiences(vec![red.clone(), blue.clone()]);
    assert_eq!(sum(deliver(Target::All, "all")).await, 3);
    assert_eq!(sum(deliver(Target::Audience(red.clone()), "red")).await, 2);
    assert_eq!(sum(deliver(Target::Audience(group("nobody")), "?")).await, 0);
    assert_eq!(sum(deliver(both.clone(), "both")).await, 3);
    assert_eq!(sum(deliver(Target::Connection(first.id), "one")).await, 1);
    let without = |target: Target, connections: &[ConnectionId], users: &[&str], text: &str| {
        let exclude =
            Exclusions { connections: connections.to_vec(), users: users.iter().map(|user| name(user)).collect() };
        Act::Deliver(Push { exclude, ..Push::text(target, text) })
    };
    assert_eq!(sum(without(Target::All, &[third.id, third.id], &["ann"], "second alone")).await, 1);
    assert_eq!(sum(without(both, &[second.id], &["ann", "nobody"], "third alone")).await, 1);
    let red = Target::Audience(red);
    assert_eq!(sum(without(red, &[third.id, first.id], &["ann"], "second again")).await, 1);
    for expected in ["all", "red", "both", "one"] {
        assert_eq!(first.text().await, expected);
    }
    for expected in ["all", "red", "both", "second alone", "second again"] {
        assert_eq!(second.text().await, expected);
    }
    for expected in ["all", "both", "third alone"] {
        assert_eq!(third.text().await, expected);
    }
}

pub(crate) async fn one_connection_of_each_node_is_reached(a: Node, b: Node) {
    let (red, blue) = (group("red"), group("blue"));
    let _clients = [
        a.connect(&[red.clone(), blue.clone()]).await,
        a.connect(std::slice::from_ref(&red)).await,
        b.connect(std::slice::from_ref(&red)).await,
        b.connect(std::slice::from_ref(&red)).await,
    ];
    let one = |target| Act::DeliverToOne(Push::text(target, "one"));
    assert_each(&b.act_one(one(Target::All)).await, &[], &Outcome::Done(1));
    assert_each(&b.act_one(one(Target::Audience(red))).await, &[], &Outcome::Done(1));
    let blue = b.act_one(one(Target::Audience(blue))).await;
    assert_each(&blue, &[(a.seq(), Outcome::Done(1))], &Outcome::Done(0));
    let push = Push::text(Target::All, "each");
    let each = Act::DeliverToOneOfEach { kind: AudienceKind::Group, payload: push.payload, opcode: push.opcode };
    assert_each(&b.act_one(each).await, &[(a.seq(), Outcome::Done(2))], &Outcome::Done(1));
}

pub(crate) async fn long_lists_are_told_whole(a: Node, b: Node) {
    const MANY: u32 = 2_600;
    let crowd = group("crowd");
    let mut counters = BTreeSet::new();
    for number in 0..MANY {
        let audiences = vec![crowd.clone(), group(&(number / 3).to_string()), user(&format!("user {number}"))];
        let opening = Opening { details: r#"{"query":{"x":"1"}}"#.into(), audiences, heartbeat: None };
        counters.insert(a.hub.open(opening, |_| Vec::new()).unwrap().counter());
    }
    a.cluster.settle(&[]).await.unwrap();
    let ask = async |question| b.look(question).await.remove(&a.seq()).unwrap();
    for question in [
        Question::ConnectionIds,
        Question::MemberIds(crowd.clone()),
        // Many small ones; a large one with small ones that have the same members.
        Question::MemberIdsOfAll(AudienceKind::User),
        Question::MemberIdsOfAll(AudienceKind::Group),
    ] {
        let Answer::Ids(ids) = ask(question).await else { panic!() };
        assert_eq!((ids.len(), ids.into_iter().collect()), (MANY as usize, counters.clone()));
    }
    let users: BTreeSet<Name> = (0..MANY).map(|number| name(&format!("user {number}"))).collect();
    let named = |count| Answer::Names(users.iter().map(|user| (user.clone(), count)).collect());
    assert_eq!(ask(Question::Audiences(AudienceKind::User)).await, named(1));
    assert_eq!(ask(Question::AudiencesOfMembers(crowd, AudienceKind::User)).await, named(0));
}

pub(crate) async fn more_acts_and_questions_than_fit_one_message(a: Node, b: Node) {
    let mut client = a.connect(&[]).await;
    let joins: Vec<Act> = (0..600).map(|number| join(client.id, &[group(&number.to_string())])).collect();
    let joined = b.act_each(&joins).await;
    assert_eq!(joined[&a.seq()], vec![Outcome::Done(1); joins.len()]);
    let target = || Target::Connection(client.id);
    let large = "x".repeat(700_000);
    let pushes = [large.as_str(), "small", large.as_str()].map(|text| deliver(target(), text));
    assert_eq!(b.act_each(&pushes).await[&a.seq()], vec![Outcome::Done(1); 3]);
    for expected in [large.as_str(), "small", large.as_str()] {
        assert_eq!(client.text().await, expected);
    }
    let lives = b.cluster.lives().await.unwrap();
    let questions: Vec<Question> = (0..700).map(|number| Question::Members(group(&number.to_string()))).collect();
    let answers = b.cluster.look(&lives, &questions).await.unwrap();
    let own = lives.iter().position(|life| life.seq == a.seq()).unwrap();
    let expected: Vec<Answer> = (0..700).map(|number| Answer::Count(u64::from(number < 600))).collect();
    assert_eq!(answers[own], expected);
}

pub(crate) async fn a_life_is_known_by_its_number(a: Node, b: Node) {
    let lives = a.cluster.lives().await.unwrap();
    // A second time it may come from what is known already.
    for node in [&a, &b, &a, &b] {
        for life in &lives {
            assert_eq!(node.cluster.life(life.seq).await, Ok(Some(*life)));
        }
        let unused = (1..).filter_map(Seq::new).find(|seq| lives.iter().all(|life| life.seq != *seq)).unwrap();
        assert_eq!(node.cluster.life(unused).await, Ok(None));
    }
}
