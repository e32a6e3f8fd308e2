//! A sink that writes down what it is told, and can be difficult.

use crate::node::{Node, until};
use async_trait::async_trait;
use carillon::cluster::redis::RedisConfig;
use carillon::cluster::{ChannelEvents, NotTaken, Owed, Sink};
use carillon::model::ConnectionId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::sleep;

#[derive(Default, Debug)]
struct State {
    /// Everything that was taken, in order, repetitions included.
    taken: Vec<Owed>,
    refused: Vec<String>,
    refuse: usize,
    hang: bool,
    /// How long each delivery takes.
    takes: Duration,
    /// Deliveries under way, and the most that there were at once.
    flying: (usize, usize),
    /// What it wants to be told of channels, where that is not everything.
    events: Option<ChannelEvents>,
}

/// A delivery under way, however it ends.
struct Flying<'a>(&'a Recorder);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.state().flying.0 -= 1;
    }
}

/// What it has been told.
#[derive(Default, Debug)]
pub(crate) struct Recorder(Mutex<State>);

#[async_trait]
impl Sink for Recorder {
    fn channel_events(&self) -> ChannelEvents {
        self.state().events.unwrap_or(ChannelEvents::ALL)
    }

    async fn deliver(&self, owed: &Owed) -> Result<(), NotTaken> {
        let takes = {
            let mut state = self.state();
            state.flying.0 += 1;
            state.flying.1 = state.flying.1.max(state.flying.0);
            state.takes
        };
        let _flying = Flying(self);
        if !takes.is_zero() {
            sleep(takes).await;
        }
        let hang = {
            let mut state = self.state();
            if state.refuse > 0 {
                state.refuse -= 1;
                state.refused.push(owed.id());
                return Err(NotTaken("told to refuse".to_owned()));
            }
            if !state.hang {
                state.taken.push(owed.clone());
            }
            state.hang
        };
        if hang { std::future::pending().await } else { Ok(()) }
    }
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Two nodes that tell it.
    pub(crate) async fn two(self: &Arc<Self>, config: RedisConfig) -> (Node, Node) {
        (self.node(config.clone()).await, self.node(config).await)
    }

    /// A node that tells it.
    pub(crate) async fn node(self: &Arc<Self>, config: RedisConfig) -> Node {
        let node = Node::telling(config, Some(self.clone()));
        node.ready().await;
        node
    }

    pub(crate) fn refuse_next(&self, many: usize) {
        self.state().refuse = many;
    }

    /// From here on it takes nothing and says nothing.
    pub(crate) fn hang(&self, hang: bool) {
        self.state().hang = hang;
    }

    /// From here on it takes so long for each.
    pub(crate) fn takes(&self, time: Duration) {
        self.state().takes = time;
    }

    /// It wants to be told of these changes of channels alone, as nodes find that start from here on.
    pub(crate) fn wants(&self, events: ChannelEvents) {
        self.state().events = Some(events);
    }

    /// The most deliveries that were under way at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state().flying.1
    }

    pub(crate) fn refused(&self) -> usize {
        self.state().refused.len()
    }

    pub(crate) fn refused_ids(&self) -> Vec<String> {
        self.state().refused.clone()
    }

    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.state().taken.iter().map(Owed::id).collect()
    }

    /// How many channels have a story of so many events.
    pub(crate) fn stories_of(&self, length: usize) -> usize {
        self.stories().values().filter(|story| story.len() == length).count()
    }

    fn stories(&self) -> BTreeMap<String, BTreeMap<u64, &'static str>> {
        let mut stories: BTreeMap<String, BTreeMap<u64, &'static str>> = BTreeMap::new();
        for owed in &self.state().taken {
            if let Owed::Occupied { channel, version } | Owed::Vacated { channel, version } = owed {
                stories.entry(channel.to_string()).or_default().insert(*version, owed.event());
            }
        }
        stories
    }

    /// The channels that it has been told of.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.stories().into_keys().collect()
    }

    /// A channel's events in the order of their versions, each once.
    pub(crate) fn story(&self, channel: &str) -> Vec<&'static str> {
        self.stories().remove(channel).map(|story| story.into_values().collect()).unwrap_or_default()
    }

    /// Waits until a channel has this story.
    pub(crate) async fn comes_to(&self, channel: &str, story: &[&str]) {
        until(&format!("{channel} has the story {story:?}"), || async { self.story(channel) == story }).await;
    }

    /// Fails where events of a channel do not alternate, beginning with its being occupied.
    pub(crate) fn has_only_whole_stories(&self) {
        for (channel, story) in self.stories() {
            let story: Vec<&str> = story.into_values().collect();
            let alternating = ["channel_occupied", "channel_vacated"].into_iter().cycle().take(story.len());
            assert_eq!(story, alternating.collect::<Vec<_>>(), "{channel}");
        }
    }

    /// The connections whose closes it has been told, with the details.
    pub(crate) fn closes(&self) -> BTreeMap<ConnectionId, String> {
        let state = self.state();
        let closes = state.taken.iter().filter_map(|owed| match owed {
            Owed::Closed { connection, details, .. } => Some((*connection, details.to_string())),
            Owed::Occupied { .. } | Owed::Vacated { .. } => None,
        });
        closes.collect()
    }
}
