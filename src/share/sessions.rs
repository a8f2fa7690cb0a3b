//! Share sessions: what a member fetches, kept between its requests (KIP-932). A session belongs to a connection, and ends
//! with it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexSet;
use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

/// Epoch of a request that opens a session.
pub const OPENS: i32 = 0;
/// Epoch of a request that closes it.
pub const CLOSES: i32 = -1;

/// Most partitions of a session: each request that goes on in it looks at all of them.
pub const MOST_PARTITIONS: usize = 1 << 16;

/// A partition of a topic by its id.
pub type TopicPartition = (Uuid, i32);

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member: Arc<str>,
}

#[derive(Debug)]
struct Session {
    /// No other has or had it.
    id: u64,
    /// Of its next request.
    epoch: i32,
    /// What is fetched, in the order in which it was named.
    partitions: IndexSet<TopicPartition>,
    connection: SocketAddr,
}

/// A session that ended, and what it may have held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whose it was.
    pub key: SessionKey,
    /// What it fetched.
    pub partitions: Vec<TopicPartition>,
}

/// What a request to fetch has before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Of the session: the same member may open another.
    pub id: u64,
    /// What to fetch, another first each time.
    pub partitions: Vec<TopicPartition>,
    /// The session that this one took the place of.
    pub replaced: Option<Ended>,
}

/// All share sessions of this node.
#[derive(Debug)]
pub struct ShareSessions {
    most: usize,
    sessions: Mutex<HashMap<SessionKey, Session>>,
    last_id: AtomicU64,
}

impl ShareSessions {
    /// None yet; `most` at a time.
    pub fn new(most: usize) -> Self {
        Self { most, sessions: Mutex::default(), last_id: AtomicU64::new(0) }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of sessions.
    pub fn count(&self) -> usize {
        self.sessions().len()
    }

    /// A ShareFetch that opens a session or goes on in one; `named` come to it, `forgotten` leave it. More than
    /// [`MOST_PARTITIONS`] in one are refused, and the session is as before.
    pub fn fetch(
        &self,
        key: &SessionKey,
        epoch: i32,
        named: &[TopicPartition],
        forgotten: &[TopicPartition],
        connection: SocketAddr,
    ) -> Result<Begun, ErrorCode> {
        if epoch == OPENS {
            // Hashed before the lock, which all sessions wait for.
            let fetched: IndexSet<_> = named.iter().copied().collect();
            if fetched.len() > MOST_PARTITIONS {
                return Err(ErrorCode::ShareSessionLimitReached);
            }
            let partitions = fetched.iter().copied().collect();
            let mut sessions = self.sessions();
            let replaced = sessions.remove(key).map(|old| old.ended(key.clone()));
            if sessions.len() >= self.most {
                return Err(ErrorCode::ShareSessionLimitReached);
            }
            let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
            sessions.insert(key.clone(), Session { id, epoch: 1, partitions: fetched, connection });
            return Ok(Begun { id, partitions, replaced });
        }
        let forgotten: HashSet<_> = forgotten.iter().copied().collect();
        let mut sessions = self.sessions();
        let session = Session::go_on(&mut sessions, key, epoch)?;
        session.change(named, &forgotten)?;
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        let mut partitions: Vec<_> = session.partitions.iter().copied().collect();
        if !partitions.is_empty() {
            let first = usize::try_from(epoch).unwrap_or(0) % partitions.len();
            partitions.rotate_left(first);
        }
        Ok(Begun { id: session.id, partitions, replaced: None })
    }

    /// A ShareAcknowledge, which needs a session but fetches nothing.
    pub fn acknowledge(&self, key: &SessionKey, epoch: i32) -> Result<(), ErrorCode> {
        if epoch == OPENS {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        Session::go_on(&mut self.sessions(), key, epoch)?.epoch = epoch.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// Is there one? What a request that closes it asks.
    pub fn check(&self, key: &SessionKey) -> Result<(), ErrorCode> {
        if self.sessions().contains_key(key) { Ok(()) } else { Err(ErrorCode::ShareSessionNotFound) }
    }

    /// Is this very session there still?
    pub fn is_live(&self, key: &SessionKey, id: u64) -> bool {
        self.sessions().get(key).is_some_and(|session| session.id == id)
    }

    /// Ends a session.
    pub fn close(&self, key: &SessionKey) -> Option<Ended> {
        let session = self.sessions().remove(key)?;
        Some(session.ended(key.clone()))
    }

    /// Ends the sessions of a connection that is gone.
    pub fn disconnected(&self, connection: SocketAddr) -> Vec<Ended> {
        let mut sessions = self.sessions();
        if sessions.is_empty() {
            return Vec::new();
        }
        let gone = sessions.extract_if(|_, session| session.connection == connection);
        gone.map(|(key, session)| session.ended(key)).collect()
    }
}

impl Session {
    fn go_on<'s>(
        sessions: &'s mut HashMap<SessionKey, Self>,
        key: &SessionKey,
        epoch: i32,
    ) -> Result<&'s mut Self, ErrorCode> {
        let session = sessions.get_mut(key).ok_or(ErrorCode::ShareSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        Ok(session)
    }

    fn change(&mut self, named: &[TopicPartition], forgotten: &HashSet<TopicPartition>) -> Result<(), ErrorCode> {
        let before = self.partitions.len();
        for one in named {
            if self.partitions.len() >= MOST_PARTITIONS && !self.partitions.contains(one) {
                self.partitions.truncate(before);
                return Err(ErrorCode::ShareSessionLimitReached);
            }
            self.partitions.insert(*one);
        }
        if !forgotten.is_empty() {
            self.partitions.retain(|one| !forgotten.contains(one));
        }
        Ok(())
    }

    fn ended(self, key: SessionKey) -> Ended {
        Ended { key, partitions: self.partitions.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_goes_on_epoch_by_epoch() {
        let sessions = ShareSessions::new(1);
        let key = |member: &str| SessionKey { group: "g".into(), member: member.into() };
        let (a, b) = ((Uuid::from_u128(1), 0), (Uuid::from_u128(1), 1));
        let here: SocketAddr = ([127, 0, 0, 1], 1).into();
        assert_eq!(sessions.fetch(&key("m"), 1, &[], &[], here), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(sessions.acknowledge(&key("m"), OPENS), Err(ErrorCode::InvalidShareSessionEpoch));
        let begun =
            |partitions: &[TopicPartition]| Ok(Begun { id: 1, partitions: partitions.to_vec(), replaced: None });
        assert_eq!(sessions.fetch(&key("m"), OPENS, &[a, b, a], &[], here), begun(&[a, b]));
        assert_eq!(sessions.fetch(&key("n"), OPENS, &[], &[], here), Err(ErrorCode::ShareSessionLimitReached));
        assert_eq!(sessions.fetch(&key("m"), 1, &[], &[], here), begun(&[b, a]));
        assert_eq!(sessions.fetch(&key("m"), 1, &[], &[], here), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&key("m"), 2), Ok(()));
        assert_eq!(sessions.fetch(&key("m"), 3, &[], &[a], here), begun(&[b]));
        let reopened = sessions.fetch(&key("m"), OPENS, &[a], &[], here).unwrap();
        assert_eq!([1, reopened.id].map(|id| sessions.is_live(&key("m"), id)), [false, true]);
        assert_eq!(reopened.replaced, Some(Ended { key: key("m"), partitions: vec![b] }));
        assert_eq!(sessions.disconnected(([127, 0, 0, 1], 2).into()), []);
        assert_eq!(sessions.disconnected(here), [Ended { key: key("m"), partitions: vec![a] }]);
        assert_eq!((sessions.count(), sessions.close(&key("m"))), (0, None));
    }

    #[test]
    fn a_session_has_an_end_and_many_names_cost_little() {
        let sessions = ShareSessions::new(1);
        let key = SessionKey { group: "g".into(), member: "m".into() };
        let here: SocketAddr = ([127, 0, 0, 1], 1).into();
        let named = |range: std::ops::Range<i32>| range.map(|one| (Uuid::nil(), one)).collect::<Vec<_>>();
        let most = i32::try_from(MOST_PARTITIONS).unwrap();
        // With a walk over all that are known for each that is named, these would take minutes.
        let too_many = sessions.fetch(&key, OPENS, &named(0..most + 1), &[], here);
        assert_eq!((too_many, sessions.count()), (Err(ErrorCode::ShareSessionLimitReached), 0));
        let begun = sessions.fetch(&key, OPENS, &named(0..most), &[], here).unwrap();
        assert_eq!(begun.partitions, named(0..most));
        let one_more = sessions.fetch(&key, 1, &named(most - 1..most + 1), &[], here);
        assert_eq!(one_more, Err(ErrorCode::ShareSessionLimitReached));
        // The session is as before.
        let left = sessions.fetch(&key, 1, &named(0..most), &named(1..most), here).unwrap();
        assert_eq!(left.partitions, named(0..1));
    }
}
