//! The load generator. It shares its cores with the server that it measures, so it does as little as it can: one thread
//! for all subscribers, one for all pushers, and frames are counted by their headers without looking at the payload.

mod frames;
mod handshake;
mod paced;
mod pushers;
mod request;
mod stream;
mod subscribers;

pub use paced::{Pace, push_at};
pub use pushers::{Pushers, Reuse};
pub use request::PushRequest;
pub use subscribers::{Listen, Subscribers};
