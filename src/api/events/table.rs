//! Every event: its name, and its parameters in their order.

/// One event. The originals' clients know them by the names in [`EVENTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    ConnectionCount,
    Users,
    Connections,
    IsUserOnline,
    IsConnectionOnline,
    Bind,
    UnbindUser,
    UnbindConnection,
    Groups,
    JoinByUser,
    JoinByConnection,
    LeaveByUser,
    LeaveByConnection,
    LeaveAllByUser,
    LeaveAllByConnection,
    GroupsOfUser,
    GroupsOfConnection,
    IsUserInGroup,
    IsConnectionInGroup,
    UsersOfGroupCount,
    ConnectionsOfGroupCount,
    SendToUser,
    SendToConnection,
    SendToGroup,
    Broadcast,
    SendToGroupsOfUser,
    SendToGroupsOfConnection,
    QueryOfConnection,
    UserOfConnection,
    ConnectionsOfUser,
    BoundConnections,
    UserCount,
    BoundConnectionCount,
    GroupsOfUserCount,
    GroupsOfConnectionCount,
    SendToClient,
    SendToOne,
    SendToOneOfGroup,
    SendToOneOfEachGroup,
}

/// A parameter: its name, and whether it may be missing.
pub(super) struct Slot(pub(super) &'static str, pub(super) bool);

const ID: Slot = Slot("id", false);
const CONNECTION: Slot = Slot("_id", false);
const GROUP: Slot = Slot("groupId", false);
const MESSAGE: Slot = Slot("msg", false);
const DATA: Slot = Slot("data", false);
const WITHOUT_USERS: Slot = Slot("excludeIds", true);
const WITHOUT: Slot = Slot("exclude_Ids", true);

/// The events by name. Some have two.
pub(super) const EVENTS: &[(&str, Event, &[Slot])] = &[
    ("getConnectionCount", Event::ConnectionCount, &[]),
    ("get_IdCount", Event::ConnectionCount, &[]),
    ("getIds", Event::Users, &[]),
    ("getBindIds", Event::Users, &[]),
    ("getIdCount", Event::UserCount, &[]),
    ("getBindIdCount", Event::UserCount, &[]),
    ("get_Ids", Event::Connections, &[]),
    ("getBind_Ids", Event::BoundConnections, &[]),
    ("getBind_IdCount", Event::BoundConnectionCount, &[]),
    ("getBind_IdsById", Event::ConnectionsOfUser, &[ID]),
    ("isOnlineId", Event::IsUserOnline, &[ID]),
    ("isOnline_Id", Event::IsConnectionOnline, &[CONNECTION]),
    ("getIdBy_Id", Event::UserOfConnection, &[CONNECTION]),
    ("get_IdData", Event::QueryOfConnection, &[CONNECTION]),
    ("bindId", Event::Bind, &[ID, CONNECTION]),
    ("unBindId", Event::UnbindUser, &[ID]),
    ("unBind_Id", Event::UnbindConnection, &[CONNECTION]),
    ("getGroupIds", Event::Groups, &[]),
    ("getGroupIdsById", Event::GroupsOfUser, &[ID]),
    ("getGroupIdsBy_Id", Event::GroupsOfConnection, &[CONNECTION]),
    ("getGroupCountById", Event::GroupsOfUserCount, &[ID]),
    ("getGroupCountBy_Id", Event::GroupsOfConnectionCount, &[CONNECTION]),
    ("getGroupIdCount", Event::UsersOfGroupCount, &[GROUP]),
    ("getGroup_IdCount", Event::ConnectionsOfGroupCount, &[GROUP]),
    ("isInGroupById", Event::IsUserInGroup, &[GROUP, ID]),
    ("isInGroupBy_Id", Event::IsConnectionInGroup, &[GROUP, CONNECTION]),
    ("joinGroupById", Event::JoinByUser, &[GROUP, ID]),
    ("joinGroupBy_Id", Event::JoinByConnection, &[GROUP, CONNECTION]),
    ("leaveGroupById", Event::LeaveByUser, &[GROUP, ID]),
    ("leaveGroupBy_Id", Event::LeaveByConnection, &[GROUP, CONNECTION]),
    ("leaveAllGroupById", Event::LeaveAllByUser, &[ID]),
    ("leaveAllGroupBy_Id", Event::LeaveAllByConnection, &[CONNECTION]),
    ("sendMessageToId", Event::SendToUser, &[ID, MESSAGE, WITHOUT]),
    ("sendMessageTo_Id", Event::SendToConnection, &[CONNECTION, MESSAGE]),
    ("sendToClient", Event::SendToClient, &[CONNECTION, MESSAGE, Slot("id", true), WITHOUT]),
    ("sendToGroup", Event::SendToGroup, &[GROUP, MESSAGE, WITHOUT_USERS, WITHOUT]),
    ("broadcast", Event::Broadcast, &[MESSAGE, WITHOUT]),
    ("sendMessageToGroupByOnlyId", Event::SendToGroupsOfUser, &[ID, MESSAGE, WITHOUT]),
    ("sendMessageToGroupByOnly_Id", Event::SendToGroupsOfConnection, &[CONNECTION, MESSAGE]),
    ("randSendToConnection", Event::SendToOne, &[DATA]),
    ("broadcastToGroupOnce", Event::SendToOneOfGroup, &[GROUP, DATA]),
    ("broadcastToAllGroupOnce", Event::SendToOneOfEachGroup, &[DATA]),
];

/// The event of that name, upper or lower case, with its parameters.
pub(super) fn find(name: &str) -> Option<(Event, &'static [Slot])> {
    let found = EVENTS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    found.map(|(_, event, slots)| (*event, *slots))
}

impl Event {
    /// Whether it pushes something.
    pub(super) fn is_push(self) -> bool {
        matches!(
            self,
            Self::SendToUser
                | Self::SendToConnection
                | Self::SendToGroup
                | Self::Broadcast
                | Self::SendToGroupsOfUser
                | Self::SendToGroupsOfConnection
                | Self::SendToClient
                | Self::SendToOne
                | Self::SendToOneOfGroup
                | Self::SendToOneOfEachGroup
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::events::parameters::MOST_PARAMETERS;

    #[test]
    fn names_are_found_whatever_their_case_and_mean_one_event_each() {
        for (at, (name, event, slots)) in EVENTS.iter().enumerate() {
            assert_eq!(find(&name.to_uppercase()).map(|(found, _)| found), Some(*event));
            assert!(EVENTS[..at].iter().all(|(other, ..)| !other.eq_ignore_ascii_case(name)), "{name}");
            assert!(slots.len() <= MOST_PARAMETERS, "{name}");
        }
        for unknown in ["", " getIds", "getIds ", "get-Ids", "getidss"] {
            assert!(find(unknown).is_none(), "{unknown:?}");
        }
    }
}
