//! What events are planned to, in which rounds they are carried out, and how large answers are written.

use super::super::fixture::service;
use super::meaning::{Codes, Known, Meaning};
use super::parameters::{Body, Fault, Parameters};
use super::plan::{Plan, plan};
use super::value::Value;
use super::*;
use crate::api::Content;
use crate::cluster::{Act, Answer as Answered, Question};
use crate::model::{Audience, AudienceKind, ConnectionId, HexId, Name, NodeId, Push, Seq, Target, Who};
use crate::query::Query;
use http_body_util::BodyExt;
use std::sync::Arc;

const LIFE: &str = "98b95842c9e26e8fb113cf8342526f5d";

fn life() -> Life {
    Life { seq: Seq::new(5).unwrap(), id: LIFE.parse::<NodeId>().unwrap() }
}

/// The connection with this counter, and its `_id`.
fn connection(counter: u32) -> (ConnectionId, String) {
    let life = life();
    let connection = ConnectionId::new(life.seq, counter);
    (connection, HexId::new(life.id.tag(), connection).to_string())
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// What the event `e` of a body is planned to.
fn planned(event: &str, json: &str) -> Result<Plan, Fault> {
    let body = format!(r#"{{"{event}":{json}}}"#);
    let parameters = Parameters { query: &Query::default(), body: Body::parse(body.as_bytes()) };
    plan(event, parameters.of_event(event)?, &[life()], 3)
}

fn in_query(event: &str, query: &str) -> Result<Plan, Fault> {
    let query = Query::parse(query.as_bytes()).unwrap();
    let parameters = Parameters { query: &query, body: Body::Nothing };
    plan(event, parameters.of_event(event)?, &[life()], 3)
}

#[test]
fn parameters_are_taken_by_name_or_all_by_place() {
    let member = Question::SharedMember(Audience::group(name("g")), Audience::user(name("u")));
    let wanted = Ok(Plan::Read(member, Meaning::IsAny));
    for json in [
        r#"{"groupId":"g","id":"u"}"#,
        r#"{"id":"u","groupId":"g","more":[1]}"#,
        r#"["g","u"]"#,
        r#"["g","u","x","y","z"]"#,
        r#"{"0":"g","1":"u"}"#,
        r#"{"0":"g","id":"u"}"#,
    ] {
        assert_eq!(planned("isInGroupById", json), wanted, "{json}");
    }
    for query in ["isInGroupById[groupId]=g&isInGroupById[id]=u", "isInGroupById[]=g&isInGroupById[]=u"] {
        assert_eq!(in_query("isInGroupById", query), wanted, "{query}");
    }
    for (json, missing) in [
        ("null", "groupId"),
        ("{}", "groupId"),
        ("[]", "groupId"),
        (r#"["g"]"#, "id"),
        (r#"{"groupId":"g","id":null}"#, "id"),
        // Places count where the first one is filled.
        (r#"{"groupId":"g","1":"u"}"#, "id"),
        (r#"[null,"u"]"#, "groupId"),
        (r#"{"groupId":["wrong"]}"#, "id"),
    ] {
        assert_eq!(planned("isInGroupById", json), Err(Fault::Missing(missing)), "{json}");
    }
    // The spelling of the event is that of its parameters.
    assert_eq!(in_query("isingroupbyid", "isInGroupById[]=g"), Err(Fault::Missing("groupId")));
    assert_eq!(planned("isInGroup", "{}"), Err(Fault::UnknownEvent));
}

#[test]
fn an_id_of_another_life_is_nobodys() {
    let (own, id) = connection(7);
    let bind = Act::Bind { connection: own, user: name("1") };
    assert_eq!(planned("bindId", &format!(r#"[1,"{id}"]"#)), Ok(Plan::Act(bind, Codes::Changed(2))));
    let other_life = format!("0{}", &id[1..]);
    let other_node = format!("{}00000006{}", &id[..16], &id[24..]);
    for nobody in [other_life, other_node, id.to_uppercase(), id[1..].to_owned()] {
        assert_eq!(planned("bindId", &format!(r#"[1,"{nobody}"]"#)), Ok(Plan::Known(Known::Number(2))), "{nobody}");
        assert_eq!(planned("isOnline_Id", &format!(r#"["{nobody}"]"#)), Ok(Plan::Known(Known::False)), "{nobody}");
    }
}

#[test]
fn single_values_and_messages_are_converted_as_php_does() {
    let user = |text: &str| Ok(Plan::Read(Question::Members(Audience::user(name(text))), Meaning::IsAny));
    for (json, text) in
        [(r#""7""#, "7"), ("7", "7"), ("1.0", "1"), ("1e25", "1.0E+25"), ("true", "1"), (r#""\u0457""#, "ї")]
    {
        assert_eq!(planned("isOnlineId", &format!("[{json}]")), user(text), "{json}");
    }
    assert_eq!(planned("isOnlineId", "[false]"), Ok(Plan::Known(Known::False)));
    for (json, text) in [
        (r#""""#, ""),
        (r#""a\/b""#, "a/b"),
        ("12", "12"),
        ("{ }", "{}"),
        (r#"[1.0, {"b":"\u0457", "a":null}]"#, r#"[1.0,{"b":"ї","a":null}]"#),
    ] {
        let sent = Act::Deliver(Push::text(Target::All, text));
        assert_eq!(planned("broadcast", &format!(r#"{{"msg":{json}}}"#)), Ok(Plan::Act(sent, Codes::Count)), "{json}");
    }
    let sent = Act::Deliver(Push::text(Target::All, r#"{"a":["x","y"],"b":{"c":"/"}}"#));
    let query = "broadcast[msg][a][]=x&broadcast[msg][a][]=y&broadcast[msg][b][c]=/";
    assert_eq!(in_query("broadcast", query), Ok(Plan::Act(sent, Codes::Count)));
}

#[test]
fn a_list_of_groups_is_split_and_each_is_meant_once() {
    let groups = |names: &[&str]| names.iter().map(|group| Audience::group(name(group))).collect::<Vec<_>>();
    let who = Who::Members(Audience::user(name("u")));
    let join = Act::Join { who: who.clone(), audiences: groups(&["a", "b"]) };
    assert_eq!(planned("joinGroupById", r#"["a,b,a","u"]"#), Ok(Plan::Act(join, Codes::Changed(2))));
    assert!(
        matches!(planned("joinGroupById", r#"["a,b,c,d","u"]"#), Err(Fault::Wrong(why)) if why.contains("MAX_GROUPS"))
    );
    let leave = Act::Leave { who, audiences: groups(&["a", "b"]) };
    assert_eq!(planned("leaveGroupById", r#"["a,,b","u"]"#), Ok(Plan::Act(leave, Codes::Left)));
    let (own, id) = connection(7);
    let join = Act::Join { who: Who::Connection(own), audiences: groups(&["a,b"]) };
    assert_eq!(planned("joinGroupBy_Id", &format!(r#"["a,b","{id}"]"#)), Ok(Plan::Act(join, Codes::Changed(2))));
}

#[test]
fn who_is_left_out_is_a_list_of_those_who_can_be() {
    let (own, id) = connection(7);
    let plan = planned("sendToGroup", &format!(r#"["g","m",["u",7,""],["{id}","x",1]]"#)).unwrap();
    let Plan::Act(Act::Deliver(push), Codes::Count) = plan else { panic!("{plan:?}") };
    assert_eq!(push.exclude.users, [name("u"), name("7")]);
    assert_eq!(push.exclude.connections, [own]);
    for (json, why) in [
        (r#"["g","m","u"]"#, "parameter excludeIds must be a list"),
        (r#"["g","m",[],7]"#, "parameter exclude_Ids must be a list"),
        (r#"["g","m",[[]]]"#, "parameter excludeIds must be a list of single values"),
    ] {
        assert_eq!(planned("sendToGroup", json), Err(Fault::Wrong(why.to_owned())), "{json}");
    }
}

#[test]
fn an_id_sends_to_a_user_and_none_to_the_connection() {
    let (own, id) = connection(7);
    let target = |json: &str| match planned("sendToClient", json) {
        Ok(Plan::Act(Act::Deliver(push), Codes::Count)) => push.target,
        other => panic!("{json}: {other:?}"),
    };
    for user in ["null", "0", r#""0""#, r#""""#, "false"] {
        assert_eq!(target(&format!(r#"["{id}","m",{user}]"#)), Target::Connection(own), "{user}");
    }
    assert_eq!(target(r#"["","m",5]"#), Target::Audience(Audience::user(name("5"))));
}

#[test]
fn a_body_is_an_object_nothing_or_a_fault() {
    for (body, wanted) in [
        ("", "nothing"),
        (" \n", "nothing"),
        ("a=1", "nothing"),
        (r#"{"event":"x""#, "nothing"),
        ("null", "nothing"),
        (" [ ] ", "nothing"),
        ("{}", "object"),
        (r#" {"event":"x"} "#, "event"),
        (r#"{"event":""}"#, "event"),
        (r#"{"event":null}"#, "object"),
        ("[1]", "other"),
        ("false", "other"),
        ("0", "other"),
        (r#""x""#, "other"),
    ] {
        let parsed = Body::parse(body.as_bytes());
        let found = match &parsed {
            Body::Nothing => "nothing",
            Body::Object(_) if parsed.has_event() => "event",
            Body::Object(_) => "object",
            Body::Other => "other",
            Body::Unreadable(_) => "unreadable",
        };
        assert_eq!(found, wanted, "{body}");
    }
    assert!(matches!(Body::parse(b"{\"event\":\"\xff\"}"), Body::Nothing));
}

#[tokio::test]
async fn events_of_a_batch_see_what_those_before_them_did() {
    let service = service();
    let lives = [service.own_life()];
    let id = ConnectionId::from_u64(1).unwrap();
    let groups = Question::Audiences(AudienceKind::Group);
    let of_user = Question::AudiencesOfMembers(Audience::user(name("u")), AudienceKind::Group);
    let all = [
        Plan::Read(Question::AudienceCount(AudienceKind::User), Meaning::Number),
        Plan::Act(Act::Bind { connection: id, user: name("u") }, Codes::Changed(2)),
        Plan::Act(
            Act::Join { who: Who::Connection(id), audiences: vec![Audience::group(name("g"))] },
            Codes::Changed(2),
        ),
        Plan::Read(groups, Meaning::Length),
        Plan::SendToGroupsOf(of_user, "m".into(), Default::default()),
        Plan::Act(Act::LeaveAll { who: Who::Connection(id), kind: AudienceKind::Group }, Codes::Zero),
    ];
    let numbers = async |steps: &[usize]| -> Vec<u64> {
        let values = windows::run(&service, &lives, &all, steps).await;
        let number = |values: &Vec<Value>| match values.as_slice() {
            [Value::Number(number)] => *number,
            other => panic!("{other:?}"),
        };
        values.iter().filter(|values| !values.is_empty()).map(number).collect()
    };
    // Not bound, bound, joined, one group, sent to one, left.
    assert_eq!(numbers(&[0, 1, 2, 3, 4, 5]).await, [0, 0, 0, 1, 1, 0]);
    // Again: bound since then, joined anew; the groups are looked up after each change of them.
    assert_eq!(numbers(&[0, 1, 4, 2]).await, [1, 1, 0, 0]);
    assert_eq!(numbers(&[2, 4, 4]).await, [1, 1]);
    assert_eq!(numbers(&[4, 5, 4]).await, [0, 0]);
    assert!(numbers(&[]).await.is_empty());
}

#[tokio::test]
async fn a_large_answer_is_sent_in_pieces_and_a_small_one_with_its_length() {
    let ids = |count: u32| Value::List(Arc::new(Answered::Ids((0..count).collect())));
    let small = reply::of_lives(&[life()], vec![("get_Ids".to_owned(), vec![ids(1000)])]).into_body();
    assert!(matches!(small, Content::Whole(_)));
    let map = Value::Map(Arc::new(Answered::Ids((0..1500).collect())));
    let large = vec![
        ("get_Ids".to_owned(), vec![ids(100_000)]),
        ("getBind_IdsById".to_owned(), vec![map]),
        ("broadcastToAllGroupOnce".to_owned(), vec![Value::Trues(2500)]),
    ];
    let mut body = reply::of_lives(&[life()], large).into_body();
    assert!(matches!(body, Content::Pieces(_)));
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        assert!(piece.len() < 200 << 10, "a piece of {} bytes", piece.len());
        bytes.extend_from_slice(&piece);
    }
    let reply: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let listed = reply["data"]["get_Ids"][LIFE].as_array().unwrap();
    assert_eq!((listed.len(), listed.last().unwrap().as_str()), (100_000, Some(connection(99_999).1.as_str())));
    let map = reply["data"]["getBind_IdsById"][LIFE].as_object().unwrap();
    assert!(map.len() == 1500 && map.iter().all(|(key, value)| key == value));
    assert_eq!(reply["data"]["broadcastToAllGroupOnce"][LIFE].as_array().unwrap().len(), 2500);
    // As it would be written at once.
    let mut wanted = Vec::new();
    super::super::json::append(&mut wanted, 0, &reply);
    wanted.push(b'\n');
    assert!(bytes == wanted);
}
