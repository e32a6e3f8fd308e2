//! What is done to connections from outside: closed, joined to audiences, taken out, bound to a user.
//!
//! Everything happens under the roster's lock, so that pushes and acts keep their order, and a caller who has its answer
//! finds what it did in whatever it reads next.

use super::inbox::Command;
use super::roster::Roster;
use super::{CloseReason, Hub, JoinError, frame};
use crate::model::{Audience, AudienceKind, ConnectionId, Name, Who};
use std::collections::HashSet;

/// What came of taking connections out of audiences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// So many memberships have ended; none where nobody was a member.
    Memberships(u64),
    /// None of the audiences has a member here.
    NoAudience,
}

/// The counters of those that are here; `None` where there are none.
fn here(roster: &Roster, who: &Who) -> Option<Vec<u32>> {
    match who {
        Who::Connection(id) => (id.seq() == roster.seq() && roster.contains(id.counter())).then(|| vec![id.counter()]),
        Who::Members(audience) => Some(roster.members(audience).to_vec()).filter(|members| !members.is_empty()),
    }
}

impl Hub {
    /// Closes a connection; false where it isn't here. It is out of every listing when this returns.
    pub fn close(&self, connection: ConnectionId, code: u16, reason: &str) -> bool {
        connection.seq() == self.seq() && self.close_each(&[connection.counter()], code, reason, CloseReason::Api) == 1
    }

    /// Closes every local member; how many.
    pub fn close_audience(&self, audience: &Audience, code: u16, reason: &str) -> u64 {
        let members = self.members(audience);
        self.close_each(&members, code, reason, CloseReason::Api)
    }

    /// Closes every connection; how many. For a node that goes away or has to begin anew.
    pub fn close_all(&self, code: u16, reason: &str) -> u64 {
        let why = if code == 1012 { CloseReason::Restart } else { CloseReason::GoingAway };
        self.close_each(&self.connections(), code, reason, why)
    }

    /// Closes these connections; how many of them were still here.
    pub fn close_each(&self, counters: &[u32], code: u16, reason: &str, why: CloseReason) -> u64 {
        let frame = frame::close(code, reason);
        let mut closed = 0;
        for &counter in counters {
            let command = Command::Close { counter, frame: frame.clone(), reason: why, written: None };
            closed += u64::from(self.inner.strike_and_tell(why, counter, false, command));
        }
        closed
    }

    /// Makes connections members of audiences, all of all or nobody of any; how many memberships are new.
    pub fn join(&self, who: &Who, audiences: &[Audience]) -> Result<u64, JoinError> {
        let inner = &*self.inner;
        let mut roster = inner.roster();
        let counters = here(&roster, who).ok_or(JoinError::Unknown)?;
        let limits =
            [(AudienceKind::Channel, inner.limits.max_channels), (AudienceKind::Group, inner.limits.max_groups)];
        for (kind, limit) in limits {
            if !audiences.iter().any(|audience| audience.kind == kind) {
                continue;
            }
            for &counter in &counters {
                let count = roster.count_with(counter, audiences, kind).ok_or(JoinError::Unknown)?;
                if count > limit {
                    return Err(JoinError::TooMany { kind, count, limit });
                }
            }
        }
        let mut joined = 0;
        for counter in counters {
            let before = joined;
            for audience in audiences {
                if let Some(audience) = roster.join(counter, audience) {
                    inner.inbox(counter).push(Command::Join { counter, audience });
                    joined += 1;
                }
            }
            if joined > before && audiences.iter().any(|audience| roster.is_described(counter, audience.kind)) {
                roster.describe(counter);
            }
        }
        inner.metrics.joins.inc_by(joined);
        inner.changed(&roster);
        Ok(joined)
    }

    /// Takes connections out of audiences; `None` where none of them is here.
    pub fn leave(&self, who: &Who, audiences: &[Audience]) -> Option<Left> {
        // Looked up by what each connection is in, which is little: thousands may be named for a user with thousands of
        // connections.
        let named: HashSet<&Audience> = audiences.iter().collect();
        let inner = &*self.inner;
        let mut roster = inner.roster();
        let counters = here(&roster, who)?;
        let mut left = 0;
        for counter in counters {
            let audiences = roster.audiences_among(counter, &named);
            left += self.take_out(&mut roster, counter, &audiences);
        }
        if left == 0 && named.iter().all(|audience| roster.number(audience).is_none()) {
            return Some(Left::NoAudience);
        }
        inner.changed(&roster);
        Some(Left::Memberships(left))
    }

    /// Takes connections out of all audiences of a kind; `None` where none of them is here, else how many memberships
    /// have ended.
    pub fn leave_all(&self, who: &Who, kind: AudienceKind) -> Option<u64> {
        let inner = &*self.inner;
        let mut roster = inner.roster();
        let counters = here(&roster, who)?;
        let mut left = 0;
        for counter in counters {
            let audiences = roster.audiences_of_kind(counter, kind);
            left += self.take_out(&mut roster, counter, &audiences);
        }
        inner.changed(&roster);
        Some(left)
    }

    /// One connection out of audiences; of how many it was a member.
    fn take_out(&self, roster: &mut Roster, counter: u32, audiences: &[Audience]) -> u64 {
        let (mut left, mut described) = (0, false);
        for audience in audiences {
            if let Some(number) = roster.leave(counter, audience) {
                self.inner.inbox(counter).push(Command::Leave { counter, audience: number });
                left += 1;
                described |= roster.is_described(counter, audience.kind);
            }
        }
        if described {
            roster.describe(counter);
        }
        left
    }

    /// Makes a connection one of a user's; `None` where it isn't here, false where it has a user, which it keeps.
    pub fn bind(&self, connection: ConnectionId, user: &Name) -> Option<bool> {
        let inner = &*self.inner;
        let counter = connection.counter();
        let mut roster = inner.roster();
        here(&roster, &connection.into())?;
        if !roster.audiences_of_kind(counter, AudienceKind::User).is_empty() {
            return Some(false);
        }
        if let Some(audience) = roster.join(counter, &Audience::user(user.clone())) {
            inner.inbox(counter).push(Command::Join { counter, audience });
            inner.metrics.joins.inc();
            roster.describe(counter);
        }
        inner.changed(&roster);
        Some(true)
    }
}
