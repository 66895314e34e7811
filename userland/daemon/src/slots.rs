//! How many clients there may be of whom, so that no user keeps out the others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::peer::Peer;

/// Most clients at once.
pub const MOST: usize = 64;
/// So many of them are for root and the daemon's own user alone: whoever looks into a crowd gets in.
const RESERVED: usize = 8;
/// Most clients of any other user.
const MOST_OF_USER: usize = 16;

/// Who is connected: how many clients of each user.
#[derive(Debug, Default)]
pub struct Slots(Mutex<HashMap<u32, usize>>);

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a Slots,
    uid: u32,
}

impl Slots {
    /// A place for one more, if there is one.
    #[must_use]
    pub fn take(&self, peer: &Peer) -> Option<Slot<'_>> {
        let mut held = self.lock();
        let all: usize = held.values().sum();
        let of_user = held.entry(peer.uid).or_default();
        let is_free = if peer.is_trusted() {
            all < MOST
        } else {
            all < MOST - RESERVED && *of_user < MOST_OF_USER
        };
        *of_user += usize::from(is_free);
        held.retain(|_, count| *count > 0);
        is_free.then(|| Slot {
            slots: self,
            uid: peer.uid,
        })
    }

    /// How many are connected.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut held = self.slots.lock();
        if let Some(count) = held.get_mut(&self.uid) {
            *count -= 1;
        }
        held.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32) -> Peer {
        Peer {
            pid: None,
            uid,
            gids: Vec::new(),
        }
    }

    #[test]
    fn no_user_keeps_out_the_others() {
        let slots = Slots::default();
        let take = |uid: u32, wanted| {
            let taken = std::iter::repeat_with(|| slots.take(&peer(uid)));
            taken
                .map_while(|slot| slot)
                .take(wanted)
                .collect::<Vec<_>>()
        };
        let users: Vec<Vec<Slot<'_>>> = (60_001..60_010).map(|uid| take(uid, MOST)).collect();
        assert_eq!(users[0].len(), MOST_OF_USER);
        assert_eq!(users.iter().map(Vec::len).sum::<usize>(), MOST - RESERVED);
        let root = take(0, MOST);
        assert_eq!(root.len(), RESERVED);
        assert_eq!(slots.taken(), MOST);
        drop(users);
        assert_eq!(slots.taken(), RESERVED);
        assert_eq!(take(0, MOST).len(), MOST - RESERVED);
        drop(root);
        assert_eq!(slots.taken(), 0);
    }
}
