//! From an event and what it was given to what is asked of the nodes, and what their answers mean.

use super::meaning::{Codes, Known, Meaning};
use super::parameters::{Arguments, Fault, Parameter};
use super::table::{self, Event, Slot};
use crate::cluster::{Act, Life, Question};
use crate::model::{Audience, AudienceKind, ConnectionId, Exclusions, HexId, Name, Opcode, Push, Target, Who};
use bytes::Bytes;
use std::collections::HashSet;

/// What is to be done for one event.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Plan {
    /// Nothing: its value is this, everywhere.
    Known(Known),
    /// The directory is asked.
    Read(Question, Meaning),
    /// The nodes are asked.
    Act(Act, Codes),
    /// The members of groups get a message; which groups, the directory is asked first.
    SendToGroupsOf(Question, Bytes, Exclusions),
}

/// What an event is planned with.
struct Planner<'a> {
    slots: &'static [Slot],
    given: Arguments<'a>,
    lives: &'a [Life],
    max_groups: usize,
}

/// Plans an event by the name that the caller spelled.
pub(super) fn plan(spelled: &str, given: Arguments<'_>, lives: &[Life], max_groups: usize) -> Result<Plan, Fault> {
    let (event, slots) = table::find(spelled).ok_or(Fault::UnknownEvent)?;
    let planner = Planner { slots, given, lives, max_groups };
    // Which one is missing is said before what is wrong with another.
    let is_missing = |(at, slot): &(usize, &Slot)| !slot.1 && planner.optional(*at).is_none();
    if let Some((_, Slot(name, _))) = slots.iter().enumerate().find(is_missing) {
        return Err(Fault::Missing(name));
    }
    planner.plan(event)
}

impl Planner<'_> {
    fn optional(&self, at: usize) -> Option<Parameter<'_>> {
        self.given.get(self.slots.get(at)?.0, at)
    }

    fn need(&self, at: usize) -> Result<Parameter<'_>, Fault> {
        self.optional(at).ok_or_else(|| Fault::Missing(self.slots.get(at).map_or("", |slot| slot.0)))
    }

    /// The connection that an `_id` names among the lives that are asked.
    fn find(&self, id: &[u8]) -> Option<ConnectionId> {
        let id: HexId = std::str::from_utf8(id).ok()?.parse().ok()?;
        let seq = id.connection().seq();
        let is_alive = self.lives.iter().any(|life| life.seq == seq && life.id.tag() == id.life());
        is_alive.then_some(id.connection())
    }

    fn connection(&self, at: usize) -> Result<Option<ConnectionId>, Fault> {
        Ok(self.find(&self.need(at)?.single()?))
    }

    fn without(&self, at: usize) -> Result<Vec<ConnectionId>, Fault> {
        let mut all = Vec::new();
        if let Some(list) = self.optional(at) {
            list.each(|id| all.extend(self.find(id)))?;
        }
        Ok(all)
    }

    fn without_users(&self, at: usize) -> Result<Vec<Name>, Fault> {
        let mut all = Vec::new();
        if let Some(list) = self.optional(at) {
            list.each(|id| all.extend(std::str::from_utf8(id).ok().and_then(|id| Name::new(id).ok())))?;
        }
        Ok(all)
    }

    fn plan(&self, event: Event) -> Result<Plan, Fault> {
        match event {
            Event::ConnectionCount => Ok(Plan::Read(Question::Connections, Meaning::Number)),
            Event::Connections => Ok(Plan::Read(Question::ConnectionIds, Meaning::List)),
            Event::BoundConnections => Ok(Plan::Read(Question::MemberIdsOfAll(AudienceKind::User), Meaning::List)),
            Event::BoundConnectionCount => Ok(Plan::Read(Question::Audiences(AudienceKind::User), Meaning::Sum)),
            Event::Users => Ok(Plan::Read(Question::Audiences(AudienceKind::User), Meaning::List)),
            Event::UserCount => Ok(Plan::Read(Question::AudienceCount(AudienceKind::User), Meaning::Number)),
            Event::Groups => Ok(Plan::Read(Question::Audiences(AudienceKind::Group), Meaning::List)),
            Event::IsUserOnline
            | Event::ConnectionsOfUser
            | Event::GroupsOfUser
            | Event::GroupsOfUserCount
            | Event::IsUserInGroup => self.read_user(event),
            Event::UsersOfGroupCount | Event::ConnectionsOfGroupCount => self.read_group(event),
            Event::IsConnectionOnline => self.read_connection(Meaning::IsThere, Known::False),
            Event::UserOfConnection => self.read_connection(Meaning::User, Known::Number(0)),
            Event::QueryOfConnection => self.read_connection(Meaning::Query, Known::Empty),
            Event::GroupsOfConnection => self.read_connection(Meaning::Groups, Known::Empty),
            Event::GroupsOfConnectionCount => self.read_connection(Meaning::GroupCount, Known::Number(0)),
            Event::IsConnectionInGroup => self.is_connection_in_group(),
            Event::Bind => self.bind(),
            Event::UnbindUser | Event::LeaveAllByUser => self.leave_all_by_user(event),
            Event::UnbindConnection | Event::LeaveAllByConnection => self.leave_all_by_connection(event),
            Event::JoinByUser => self.join_by_user(),
            Event::JoinByConnection => self.join_by_connection(),
            Event::LeaveByUser => self.leave_by_user(),
            Event::LeaveByConnection => self.leave_by_connection(),
            Event::SendToUser => self.send_to_user(0, 1, 2),
            Event::SendToConnection => self.send_to_connection(),
            Event::SendToClient => self.send_to_client(),
            Event::SendToGroup => self.send_to_group(),
            Event::Broadcast => {
                let exclude = Exclusions { connections: self.without(1)?, users: Vec::new() };
                Ok(deliver(Target::All, self.need(0)?.message()?, exclude))
            }
            Event::SendToGroupsOfUser => {
                let (user, message) = (self.need(0)?.name()?, self.need(1)?.message()?);
                let exclude = Exclusions { connections: self.without(2)?, users: Vec::new() };
                let groups = |user| Question::AudiencesOfMembers(Audience::user(user), AudienceKind::Group);
                Ok(user.map_or(NOBODY_GOT_IT, |user| Plan::SendToGroupsOf(groups(user), message, exclude)))
            }
            Event::SendToGroupsOfConnection => {
                let (connection, message) = (self.connection(0)?, self.need(1)?.message()?);
                let groups = connection.map(Question::Details);
                let send = |groups| Plan::SendToGroupsOf(groups, message, Exclusions::default());
                Ok(groups.map_or(NOBODY_GOT_IT, send))
            }
            Event::SendToOne => {
                Ok(Plan::Act(Act::DeliverToOne(push(Target::All, self.need(0)?.message()?)), Codes::IsAny))
            }
            Event::SendToOneOfGroup => {
                let (group, message) = (self.need(0)?.name()?, self.need(1)?.message()?);
                let send = |group| Act::DeliverToOne(push(Target::Audience(Audience::group(group)), message));
                Ok(group.map_or(Plan::Known(Known::False), |group| Plan::Act(send(group), Codes::IsAny)))
            }
            Event::SendToOneOfEachGroup => {
                let payload = self.need(0)?.message()?;
                let act = Act::DeliverToOneOfEach { kind: AudienceKind::Group, payload, opcode: Opcode::Text };
                Ok(Plan::Act(act, Codes::Trues))
            }
        }
    }

    fn read_user(&self, event: Event) -> Result<Plan, Fault> {
        let group = if event == Event::IsUserInGroup { self.need(0)?.name()? } else { None };
        let user = self.need(usize::from(event == Event::IsUserInGroup))?.name()?.map(Audience::user);
        let groups = |user| Question::AudiencesOfMembers(user, AudienceKind::Group);
        Ok(match (event, user) {
            (Event::IsUserOnline, Some(user)) => Plan::Read(Question::Members(user), Meaning::IsAny),
            (Event::ConnectionsOfUser, Some(user)) => Plan::Read(Question::MemberIds(user), Meaning::Map),
            (Event::GroupsOfUser, Some(user)) => Plan::Read(groups(user), Meaning::List),
            (Event::GroupsOfUserCount, Some(user)) => Plan::Read(groups(user), Meaning::Length),
            (Event::ConnectionsOfUser | Event::GroupsOfUser, None) => Plan::Known(Known::Empty),
            (Event::GroupsOfUserCount, None) => Plan::Known(Known::Number(0)),
            (_, Some(user)) => match group.map(Audience::group) {
                Some(group) => Plan::Read(Question::SharedMember(group, user), Meaning::IsAny),
                None => Plan::Known(Known::False),
            },
            (_, None) => Plan::Known(Known::False),
        })
    }

    fn read_group(&self, event: Event) -> Result<Plan, Fault> {
        let Some(group) = self.need(0)?.name()?.map(Audience::group) else { return Ok(Plan::Known(Known::Number(0))) };
        Ok(if event == Event::UsersOfGroupCount {
            Plan::Read(Question::AudiencesOfMembers(group, AudienceKind::User), Meaning::Length)
        } else {
            Plan::Read(Question::Members(group), Meaning::Number)
        })
    }

    fn read_connection(&self, meaning: Meaning, unknown: Known) -> Result<Plan, Fault> {
        let connection = self.connection(0)?.map(Question::Details);
        Ok(connection.map_or(Plan::Known(unknown), |question| Plan::Read(question, meaning)))
    }

    fn is_connection_in_group(&self) -> Result<Plan, Fault> {
        let (group, connection) = (self.need(0)?.name()?, self.connection(1)?);
        Ok(match (group, connection) {
            (Some(group), Some(connection)) => Plan::Read(Question::Details(connection), Meaning::InGroup(group)),
            (None, _) | (_, None) => Plan::Known(Known::False),
        })
    }

    fn bind(&self) -> Result<Plan, Fault> {
        let (user, connection) = (self.need(0)?.new_name()?, self.connection(1)?);
        let bind = |connection| Plan::Act(Act::Bind { connection, user }, Codes::Changed(2));
        Ok(connection.map_or(Plan::Known(Known::Number(2)), bind))
    }

    fn leave_all_by_user(&self, event: Event) -> Result<Plan, Fault> {
        let who = self.need(0)?.name()?.map(|user| Who::Members(Audience::user(user)));
        Ok(leave_all(event == Event::UnbindUser, who))
    }

    fn leave_all_by_connection(&self, event: Event) -> Result<Plan, Fault> {
        Ok(leave_all(event == Event::UnbindConnection, self.connection(0)?.map(Who::Connection)))
    }

    fn join_by_user(&self) -> Result<Plan, Fault> {
        let (groups, user) = (self.need(0)?.new_names()?, self.need(1)?.name()?);
        let groups = each_once(groups);
        let (count, limit) = (groups.len(), self.max_groups);
        if count > limit {
            return Err(Fault::Wrong(format!("{count} groups are more than MAX_GROUPS, {limit}")));
        }
        Ok(user.map_or(Plan::Known(Known::Number(2)), |user| join(Who::Members(Audience::user(user)), groups)))
    }

    fn join_by_connection(&self) -> Result<Plan, Fault> {
        let (group, connection) = (self.need(0)?.new_name()?, self.connection(1)?);
        let join = |connection| join(Who::Connection(connection), vec![Audience::group(group)]);
        Ok(connection.map_or(Plan::Known(Known::Number(2)), join))
    }

    fn leave_by_user(&self) -> Result<Plan, Fault> {
        let (groups, user) = (self.need(0)?.names()?, self.need(1)?.name()?);
        Ok(user
            .map_or(Plan::Known(Known::Number(2)), |user| leave(Who::Members(Audience::user(user)), each_once(groups))))
    }

    fn leave_by_connection(&self) -> Result<Plan, Fault> {
        let (group, connection) = (self.need(0)?.name()?, self.connection(1)?);
        let groups = group.map(Audience::group).into_iter().collect();
        Ok(connection.map_or(Plan::Known(Known::Number(2)), |connection| leave(Who::Connection(connection), groups)))
    }

    fn send_to_user(&self, user: usize, message: usize, without: usize) -> Result<Plan, Fault> {
        let (user, message) = (self.need(user)?.name()?, self.need(message)?.message()?);
        let exclude = Exclusions { connections: self.without(without)?, users: Vec::new() };
        Ok(user.map_or(NOBODY_GOT_IT, |user| deliver(Target::Audience(Audience::user(user)), message, exclude)))
    }

    fn send_to_connection(&self) -> Result<Plan, Fault> {
        let (connection, message) = (self.connection(0)?, self.need(1)?.message()?);
        let send = |connection| deliver(Target::Connection(connection), message, Exclusions::default());
        Ok(connection.map_or(NOBODY_GOT_IT, send))
    }

    /// To a user where one is named, which in PHP `0` and the empty text don't.
    fn send_to_client(&self) -> Result<Plan, Fault> {
        let is_named = |user: Parameter<'_>| user.single().map(|user| !matches!(&*user, b"" | b"0"));
        match self.optional(2).map(is_named).transpose()? {
            Some(true) => self.send_to_user(2, 1, 3),
            Some(false) | None => {
                // Checked as it would be if it counted.
                self.without(3)?;
                self.send_to_connection()
            }
        }
    }

    fn send_to_group(&self) -> Result<Plan, Fault> {
        let (group, message) = (self.need(0)?.name()?, self.need(1)?.message()?);
        let exclude = Exclusions { users: self.without_users(2)?, connections: self.without(3)? };
        let send = |group| deliver(Target::Audience(Audience::group(group)), message, exclude);
        Ok(group.map_or(NOBODY_GOT_IT, send))
    }
}

const NOBODY_GOT_IT: Plan = Plan::Known(Known::Number(0));

fn each_once(groups: Vec<Name>) -> Vec<Audience> {
    let mut seen = HashSet::new();
    groups.into_iter().filter(|group| seen.insert(group.clone())).map(Audience::group).collect()
}

fn push(target: Target, payload: Bytes) -> Push {
    Push { target, exclude: Exclusions::default(), payload, opcode: Opcode::Text }
}

fn deliver(target: Target, message: Bytes, exclude: Exclusions) -> Plan {
    Plan::Act(Act::Deliver(Push { exclude, ..push(target, message) }), Codes::Count)
}

/// The act that sends to the members of groups, each once; `None` where there are none.
pub(super) fn to_groups(groups: Vec<Audience>, message: Bytes, exclude: Exclusions) -> Option<Act> {
    let target = match groups.as_slice() {
        [] => return None,
        [only] => Target::Audience(only.clone()),
        [..] => Target::Audiences(groups),
    };
    Some(Act::Deliver(Push { exclude, ..push(target, message) }))
}

fn join(who: Who, audiences: Vec<Audience>) -> Plan {
    Plan::Act(Act::Join { who, audiences }, Codes::Changed(2))
}

fn leave(who: Who, audiences: Vec<Audience>) -> Plan {
    Plan::Act(Act::Leave { who, audiences }, Codes::Left)
}

fn leave_all(unbind: bool, who: Option<Who>) -> Plan {
    let (kind, codes, nobody) =
        if unbind { (AudienceKind::User, Codes::Changed(1), 1) } else { (AudienceKind::Group, Codes::Zero, 0) };
    who.map_or(Plan::Known(Known::Number(nobody)), |who| Plan::Act(Act::LeaveAll { who, kind }, codes))
}
