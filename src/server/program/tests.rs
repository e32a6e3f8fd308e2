use super::*;
use crate::cluster::{Details, Owed};
use crate::model::{ConnectionId, HexId, NodeId};
use crate::node::Overlay;
use crate::server::middleware::Outcome;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Hooks that count ends, and may fail.
#[derive(Default)]
struct Counting {
    ends: AtomicUsize,
    fails: AtomicBool,
}

#[async_trait]
impl Hooks for Counting {
    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        assert_eq!((client.id().get(), how.cause.as_str()), (7, "node_died"));
        if self.fails.load(Ordering::Acquire) {
            return Err("on purpose".into());
        }
        self.ends.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

/// Hooks that are shared with their test.
struct Shared(Arc<Counting>);

#[async_trait]
impl Hooks for Shared {
    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        self.0.on_close(client, how).await
    }
}

fn program(hooks: &Arc<Counting>) -> Arc<Program> {
    let hooks: Arc<dyn Hooks> = Arc::new(Shared(hooks.clone()));
    let limit = Duration::from_secs(1);
    let told = Told { hooks: Some(hooks), controllers: Controllers::default(), limit, kept: false };
    Program::new(told, Handle::default(), &Registry::new()).unwrap()
}

fn node() -> NodeId {
    "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap()
}

fn died() -> End {
    End { code: End::NO_FRAME, reason: String::new(), cause: "node_died".to_owned(), at: 1 }
}

#[tokio::test(start_paused = true)]
async fn what_fails_each_time_is_given_up_and_so_is_what_does_not_fit() {
    let hooks = Arc::new(Counting::default());
    let program = program(&hooks);
    let add = || {
        let id = HexId::new(node().tag(), ConnectionId::from_u64(7).unwrap());
        let occasion = Occasion { node: node(), id, channels: None, details: Details::default() };
        program.add(occasion, Profile::Channel, &died(), None);
    };
    let all = || program.slots.clone().acquire_many_owned(MOST_CLOSES);
    hooks.fails.store(true, Ordering::Release);
    add();
    drop(all().await.unwrap());
    assert_eq!(program.metrics.given_up.get(), 1);
    let attempts = program.metrics.failed.with_label_values(&["close"]).get();
    assert_eq!(attempts, PAUSES.len() as u64 + 1);

    hooks.fails.store(false, Ordering::Release);
    let taken = all().await.unwrap();
    add();
    assert_eq!((program.metrics.given_up.get(), program.metrics.closes_waiting.get()), (2, 0));
    drop(taken);
    add();
    drop(all().await.unwrap());
    assert_eq!((hooks.ends.load(Ordering::Acquire), program.metrics.given_up.get()), (1, 2));
}

#[tokio::test]
async fn what_a_dead_node_owes_is_taken_by_hooks_that_do_not_fail() {
    let hooks = Arc::new(Counting::default());
    let program = program(&hooks);
    let sink = Over(program.clone()).sink(None);
    assert!(!sink.channel_events().any());
    let owed = |profile: &str| Owed::Closed {
        connection: ConnectionId::from_u64(7).unwrap(),
        node: node(),
        details: format!(r#"{{"profile":"{profile}"}}"#).into(),
        found: 1,
    };
    hooks.fails.store(true, Ordering::Release);
    assert!(sink.deliver(&owed("channel")).await.is_err());
    hooks.fails.store(false, Ordering::Release);
    assert_eq!(sink.deliver(&owed("channel")).await, Ok(()));
    assert_eq!(sink.deliver(&owed("of another version")).await, Ok(()), "for ever would be no use");
    assert_eq!(hooks.ends.load(Ordering::Acquire), 1);
    drop(program);
    assert!(sink.deliver(&owed("channel")).await.is_err());
}
