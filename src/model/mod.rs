//! Plain values that every other module speaks: ids, names, audiences, targets, pushes, limits, errors.
//!
//! Nothing in here does input or output, and nothing in here knows a wire format.

mod audience;
mod counters;
mod error;
mod id;
pub mod json;
mod limits;
mod push;
mod text;

pub use audience::{Audience, AudienceKind, Name, NameError, Who};
pub use counters::NodeCounters;
pub use error::{Error, Result};
pub use id::{ConnectionId, DeviceId, HexId, LifeTag, NodeId, SEQ_BITS, Seq};
pub use limits::Limits;
pub use push::{Exclusions, Opcode, Push, Target};
pub use text::{beginning, shown_path};
