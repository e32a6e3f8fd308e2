//! The rules of the interfaces over plain maps: what a cluster must answer, and who must be sent what.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One connection as the rules know it.
#[derive(Default, Debug)]
pub(crate) struct Connection {
    /// Its node's place among the nodes.
    pub(crate) node: usize,
    pub(crate) channels: BTreeSet<String>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) user: Option<String>,
    /// What it was sent and has not been seen to hear.
    pub(crate) owed: VecDeque<String>,
}

/// All connections by their `_id`.
#[derive(Default, Debug)]
pub(crate) struct Rules {
    pub(crate) connections: BTreeMap<String, Connection>,
}

/// A name as PHP has it as an array's key: an integer where it looks like one.
pub(crate) fn key(name: &str) -> Value {
    match name.parse::<i64>() {
        Ok(number) if number.to_string() == name => number.into(),
        _ => name.into(),
    }
}

/// The integer of the actions API for an `_id`.
pub(crate) fn integer(id: &str) -> u64 {
    u64::from_str_radix(&id[16..], 16).unwrap()
}

fn keys<'a>(names: impl IntoIterator<Item = &'a String>) -> Value {
    names.into_iter().map(|name| key(name)).collect()
}

/// A map from each name to itself; nothing is a list.
fn mirrored<'a>(names: impl IntoIterator<Item = &'a String>, value: impl Fn(&str) -> Value) -> Value {
    let map: serde_json::Map<String, Value> = names.into_iter().map(|name| (name.clone(), value(name))).collect();
    if map.is_empty() { json!([]) } else { map.into() }
}

fn text(parameters: &Value, name: &str) -> String {
    parameters[name].as_str().unwrap_or_else(|| panic!("{name} in {parameters}")).to_owned()
}

fn texts(parameters: &Value, name: &str) -> BTreeSet<String> {
    let list = parameters[name].as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

impl Rules {
    fn on(&self, node: usize) -> impl Iterator<Item = (&String, &Connection)> {
        self.connections.iter().filter(move |(_, connection)| connection.node == node)
    }

    fn of_user(&self, node: usize, user: &str) -> Vec<String> {
        let of = self.on(node).filter(|(_, connection)| connection.user.as_deref() == Some(user));
        of.map(|(id, _)| id.clone()).collect()
    }

    fn groups_on(&self, node: usize) -> BTreeSet<String> {
        self.on(node).flat_map(|(_, connection)| connection.groups.clone()).collect()
    }

    fn users_on(&self, node: usize) -> BTreeSet<String> {
        self.on(node).filter_map(|(_, connection)| connection.user.clone()).collect()
    }

    /// Sends to those on a node that are wanted; to how many.
    fn send(&mut self, node: usize, message: &str, wanted: impl Fn(&str, &Connection) -> bool) -> Value {
        let mut sent = 0;
        for (id, connection) in &mut self.connections {
            if connection.node == node && wanted(id, connection) {
                connection.owed.push_back(message.to_owned());
                sent += 1;
            }
        }
        sent.into()
    }

    /// Sends to those on all nodes that are wanted.
    pub(crate) fn push(&mut self, message: &str, wanted: impl Fn(&str, &Connection) -> bool) {
        for (id, connection) in &mut self.connections {
            if wanted(id, connection) {
                connection.owed.push_back(message.to_owned());
            }
        }
    }

    fn here(&mut self, node: usize, id: &str) -> Option<&mut Connection> {
        self.connections.get_mut(id).filter(|connection| connection.node == node)
    }

    fn join(&mut self, id: &str, group: &str) -> u64 {
        let connection = self.connections.get_mut(id).unwrap();
        u64::from(!connection.groups.insert(group.to_owned()))
    }

    fn leave(&mut self, node: usize, id: &str, group: &str) -> u64 {
        if !self.groups_on(node).contains(group) {
            return 1;
        }
        self.connections.get_mut(id).unwrap().groups.remove(group);
        0
    }

    /// What a node says to an event, which is carried out on it.
    pub(crate) fn event(&mut self, node: usize, event: &str, p: &Value) -> Value {
        match event {
            "getConnectionCount" | "get_IdCount" => self.on(node).count().into(),
            "getIds" | "getBindIds" => keys(&self.users_on(node)),
            "getIdCount" | "getBindIdCount" => self.users_on(node).len().into(),
            "get_Ids" => self.on(node).map(|(id, _)| id.as_str()).collect(),
            "getBind_Ids" => self.on(node).filter(|(_, it)| it.user.is_some()).map(|(id, _)| id.as_str()).collect(),
            "getBind_IdCount" => self.on(node).filter(|(_, it)| it.user.is_some()).count().into(),
            "isOnlineId" => (!self.of_user(node, &text(p, "id")).is_empty()).into(),
            "isOnline_Id" => self.here(node, &text(p, "_id")).is_some().into(),
            "getIdBy_Id" => match self.here(node, &text(p, "_id")).and_then(|it| it.user.clone()) {
                Some(user) => key(&user),
                None => 0.into(),
            },
            "getBind_IdsById" => mirrored(&self.of_user(node, &text(p, "id")), |id| id.into()),
            "bindId" => {
                let user = text(p, "id");
                match self.here(node, &text(p, "_id")) {
                    None => 2.into(),
                    Some(Connection { user: Some(_), .. }) => 1.into(),
                    Some(connection) => {
                        connection.user = Some(user);
                        0.into()
                    }
                }
            }
            "unBindId" => {
                let bound = self.of_user(node, &text(p, "id"));
                for id in &bound {
                    self.connections.get_mut(id).unwrap().user = None;
                }
                u64::from(bound.is_empty()).into()
            }
            "unBind_Id" => {
                let bound = self.here(node, &text(p, "_id")).and_then(|it| it.user.take());
                u64::from(bound.is_none()).into()
            }
            "getGroupIds" => keys(&self.groups_on(node)),
            "joinGroupById" => {
                let mut lowest = 2;
                for group in text(p, "groupId").split(',') {
                    for id in self.of_user(node, &text(p, "id")) {
                        lowest = lowest.min(self.join(&id, group));
                    }
                }
                lowest.into()
            }
            "joinGroupBy_Id" => {
                let id = text(p, "_id");
                match self.here(node, &id) {
                    None => 2.into(),
                    Some(_) => self.join(&id, &text(p, "groupId")).into(),
                }
            }
            "leaveGroupById" => {
                let mut lowest = 2;
                let members = self.of_user(node, &text(p, "id"));
                for group in text(p, "groupId").split(',') {
                    for id in &members {
                        lowest = lowest.min(self.leave(node, id, group));
                    }
                }
                lowest.into()
            }
            "leaveGroupBy_Id" => {
                let id = text(p, "_id");
                match self.here(node, &id) {
                    None => 2.into(),
                    Some(_) => self.leave(node, &id, &text(p, "groupId")).into(),
                }
            }
            "leaveAllGroupById" => {
                for id in self.of_user(node, &text(p, "id")) {
                    self.connections.get_mut(&id).unwrap().groups.clear();
                }
                0.into()
            }
            "leaveAllGroupBy_Id" => {
                if let Some(connection) = self.here(node, &text(p, "_id")) {
                    connection.groups.clear();
                }
                0.into()
            }
            "getGroupIdsById" => keys(&self.groups_of_user(node, &text(p, "id"))),
            "getGroupCountById" => self.groups_of_user(node, &text(p, "id")).len().into(),
            "getGroupIdsBy_Id" => {
                let groups = self.here(node, &text(p, "_id")).map(|it| it.groups.clone()).unwrap_or_default();
                mirrored(&groups, key)
            }
            "getGroupCountBy_Id" => self.here(node, &text(p, "_id")).map_or(0, |it| it.groups.len()).into(),
            "isInGroupById" => self.groups_of_user(node, &text(p, "id")).contains(&text(p, "groupId")).into(),
            "isInGroupBy_Id" => {
                let group = text(p, "groupId");
                match self.here(node, &text(p, "_id")) {
                    Some(connection) if connection.groups.contains(&group) => key(&group),
                    _ => false.into(),
                }
            }
            "getGroupIdCount" => {
                let group = text(p, "groupId");
                let members = self.on(node).filter(|(_, it)| it.groups.contains(&group));
                members.filter_map(|(_, it)| it.user.as_ref()).collect::<BTreeSet<_>>().len().into()
            }
            "getGroup_IdCount" => {
                let group = text(p, "groupId");
                self.on(node).filter(|(_, it)| it.groups.contains(&group)).count().into()
            }
            "sendMessageToId" => {
                let (user, out) = (text(p, "id"), texts(p, "exclude_Ids"));
                self.send(node, &text(p, "msg"), |id, it| it.user.as_ref() == Some(&user) && !out.contains(id))
            }
            "sendMessageTo_Id" => {
                let to = text(p, "_id");
                self.send(node, &text(p, "msg"), |id, _| id == to)
            }
            "sendToGroup" => {
                let (group, users, out) = (text(p, "groupId"), texts(p, "excludeIds"), texts(p, "exclude_Ids"));
                self.send(node, &text(p, "msg"), |id, it| {
                    let user = it.user.as_ref();
                    it.groups.contains(&group) && !out.contains(id) && !user.is_some_and(|user| users.contains(user))
                })
            }
            "broadcast" => {
                let out = texts(p, "exclude_Ids");
                self.send(node, &text(p, "msg"), |id, _| !out.contains(id))
            }
            "sendMessageToGroupByOnlyId" => {
                let (user, out) = (text(p, "id"), texts(p, "exclude_Ids"));
                let of_user = self.connections.values().filter(|it| it.user.as_ref() == Some(&user));
                let groups: BTreeSet<String> = of_user.flat_map(|it| it.groups.clone()).collect();
                self.send(node, &text(p, "msg"), |id, it| !it.groups.is_disjoint(&groups) && !out.contains(id))
            }
            "sendMessageToGroupByOnly_Id" => {
                let groups = self.connections.get(&text(p, "_id")).map(|it| it.groups.clone()).unwrap_or_default();
                self.send(node, &text(p, "msg"), |_, it| !it.groups.is_disjoint(&groups))
            }
            other => panic!("no rule for {other}"),
        }
    }

    fn groups_of_user(&self, node: usize, user: &str) -> BTreeSet<String> {
        let of = self.on(node).filter(|(_, it)| it.user.as_deref() == Some(user));
        of.flat_map(|(_, it)| it.groups.clone()).collect()
    }
}
