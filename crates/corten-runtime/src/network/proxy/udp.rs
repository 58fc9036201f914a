//! Sessions of datagrams: which client an answer of the container is for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long a client is remembered after the last datagram in either direction; as with Docker.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// A client that asks from a new port each time (DNS) makes a session per question; the oldest
/// gives way.
const SESSIONS_MAX: usize = 1024;

/// A client, by the listener that it spoke to, its own address, and the one of ours that it
/// chose: that is where its answers have to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) listener: u64,
    pub(super) client: SocketAddr,
    pub(super) chosen: Option<IpAddr>,
}

/// A socket of its own per client, so that answers tell whose they are.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: OwnedFd,
    pub(super) key: Key,
    pub(super) last_used: Duration,
}

/// All sessions of a container.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<u64, Session>,
    ids: BTreeMap<Key, u64>,
    /// No session is idle for too long before this time.
    look_at: Option<Duration>,
}

impl Sessions {
    pub(super) fn get(&self, id: u64) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.by_id.keys().copied().collect()
    }

    /// Returns the session of a client, if it has one, and notes that it is in use.
    pub(super) fn touch(&mut self, key: Key, now: Duration) -> Option<u64> {
        let id = *self.ids.get(&key)?;
        self.by_id.get_mut(&id)?.last_used = now;
        Some(id)
    }

    pub(super) fn insert(&mut self, id: u64, key: Key, socket: OwnedFd, now: Duration) {
        if self.by_id.len() >= SESSIONS_MAX {
            self.drop_oldest();
        }
        self.look_at.get_or_insert(now + IDLE_MAX);
        self.ids.insert(key, id);
        self.by_id.insert(id, Session { socket, key, last_used: now });
    }

    /// Forgets the session that was not used for the longest time.
    pub(super) fn drop_oldest(&mut self) {
        let oldest = self.by_id.iter().min_by_key(|(_, session)| session.last_used);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.remove(id);
        }
    }

    /// Forgets the sessions that are idle for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        let idle = |session: &Session| now.saturating_sub(session.last_used) >= IDLE_MAX;
        let ids: Vec<u64> =
            self.by_id.iter().filter(|(_, session)| idle(session)).map(|(id, _)| *id).collect();
        for id in ids {
            self.remove(id);
        }
        self.look_at = self.by_id.values().map(|session| session.last_used + IDLE_MAX).min();
    }

    /// Returns when to look for idle sessions again.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.look_at
    }

    fn remove(&mut self, id: u64) {
        if let Some(session) = self.by_id.remove(&id) {
            self.ids.remove(&session.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        let client = SocketAddr::from(([192, 0, 2, 1], port));
        Key { listener: 0, client, chosen: None }
    }

    fn insert(sessions: &mut Sessions, id: u64, port: u16, at_seconds: u64) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
        sessions.insert(id, key(port), socket, Duration::from_secs(at_seconds));
    }

    fn touch(sessions: &mut Sessions, port: u16, at_seconds: u64) -> Option<u64> {
        sessions.touch(key(port), Duration::from_secs(at_seconds))
    }

    #[test]
    fn a_client_keeps_its_session_while_it_speaks() {
        let mut sessions = Sessions::default();
        insert(&mut sessions, 1, 1000, 0);
        sessions.expire(Duration::from_secs(89));
        assert_eq!(touch(&mut sessions, 1000, 89), Some(1));
        sessions.expire(Duration::from_secs(178));
        assert_eq!(touch(&mut sessions, 1000, 178), Some(1));
        sessions.expire(Duration::from_secs(178 + 90));
        assert_eq!(touch(&mut sessions, 1000, 300), None);
        assert_eq!(sessions.next_expiry(), None);
    }

    #[test]
    fn clients_are_told_apart_by_address_listener_and_the_address_they_chose() {
        let mut sessions = Sessions::default();
        insert(&mut sessions, 1, 1000, 0);
        assert_eq!(touch(&mut sessions, 1001, 0), None);
        let other_listener = Key { listener: 1, ..key(1000) };
        assert_eq!(sessions.touch(other_listener, Duration::ZERO), None);
        let chosen = Some(IpAddr::from([198, 51, 100, 1]));
        assert_eq!(sessions.touch(Key { chosen, ..key(1000) }, Duration::ZERO), None);
    }

    #[test]
    fn the_oldest_session_gives_way_when_there_are_too_many() {
        let mut sessions = Sessions::default();
        for id in 0..SESSIONS_MAX as u64 {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0");
            let Ok(socket) = socket else { return };
            let port = u16::try_from(id).unwrap() + 1;
            sessions.insert(id, key(port), socket.into(), Duration::from_secs(id));
        }
        touch(&mut sessions, 1, 5000);
        insert(&mut sessions, 9999, 60_000, 5001);
        assert_eq!(touch(&mut sessions, 1, 5002), Some(0), "just used");
        assert_eq!(touch(&mut sessions, 2, 5002), None, "the oldest");
        assert_eq!(touch(&mut sessions, 60_000, 5002), Some(9999));
    }
}
