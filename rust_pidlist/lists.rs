//! All lists: their names, owners and descriptors, and the kernel's events on their way to each.
//!
//! Events and look-ups find the lists without a lock; making and removing one takes a mutex.

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, rcu, Arc, Mutex};

use crate::abi;
use crate::list::{self, List};
use crate::sys::cred::{Uid, User};
use crate::sys::published::{Published, Withdrawn};
use crate::sys::task::{Kind, Task};
use crate::sys::tracepoint::TaskEvents;

/// A list with its name.
#[pin_data]
pub(crate) struct Named {
    name: abi::Name,
    owner: Uid,
    temporary: bool,
    /// Changed with [`Lists::registry`] held.
    descriptors: Atomic<u32>,
    #[pin]
    list: List,
}

impl Named {
    /// # Errors
    ///
    /// `EPERM` unless it is `user`'s, or `user` may change any.
    pub(crate) fn check_owner(&self, user: &User<'_>) -> Result {
        if user.uid() == self.owner || user.is_admin() {
            Ok(())
        } else {
            Err(EPERM)
        }
    }
}

impl core::ops::Deref for Named {
    type Target = List;

    fn deref(&self) -> &List {
        &self.list
    }
}

/// The lists there are. The default one is at index 0.
#[pin_data]
pub(crate) struct Lists {
    table: Published<Named, { abi::LISTS_MAX as usize }>,
    #[pin]
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    created: u64,
    deleted: u64,
}

impl Lists {
    /// The default list alone. May sleep.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                table: Published::new(),
                registry <- new_mutex!(Registry::default()),
            }),
            GFP_KERNEL,
        )?;
        let mut name = [0; abi::NAME_LEN];
        name[..abi::DEFAULT_LIST.len()].copy_from_slice(abi::DEFAULT_LIST.as_bytes());
        this.insert(0, name, Uid::ROOT, false, 0, 0)?;
        this.registry.lock().created += 1;
        Ok(this)
    }

    /// Makes a list. May sleep.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `ENOSPC`, `ENOMEM`, those of [`list::new`].
    pub(crate) fn create(
        self: &Arc<Self>,
        name: abi::Name,
        temporary: bool,
        rules: u32,
        bytes_max: u64,
        user: &User<'_>,
    ) -> Result<Handle> {
        let mut registry = self.registry.lock();
        let mut used = [false; abi::LISTS_MAX as usize];
        let mut own = 0;
        {
            let rcu = rcu::read_lock();
            for (i, named) in self.table.iter(&rcu) {
                if named.name == name {
                    return Err(EEXIST);
                }
                used[i] = true;
                own += u32::from(named.owner == user.uid());
            }
        }
        let index = used.iter().position(|&used| !used).ok_or(ENOSPC)?;
        if own >= abi::LISTS_MAX_PER_USER && !user.is_admin() {
            return Err(ENOSPC);
        }
        let named = self.insert(index, name, user.uid(), temporary, rules, bytes_max)?;
        registry.created += 1;
        Ok(self.handle(named))
    }

    /// Finds a list. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn open(self: &Arc<Self>, name: &abi::Name) -> Result<Handle> {
        let _registry = self.registry.lock();
        let (_, named) = self.find(name).ok_or(ENOENT)?;
        Ok(self.handle(named))
    }

    /// The default list. May sleep.
    pub(crate) fn open_default(self: &Arc<Self>) -> Result<Handle> {
        let _registry = self.registry.lock();
        let named = self.nth(0).filter(|&(index, _)| index == 0);
        Ok(self.handle(named.ok_or(ENODEV)?.1))
    }

    /// Removes a list. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EPERM`, `EBUSY` for the default one.
    pub(crate) fn delete(&self, name: &abi::Name, user: &User<'_>) -> Result {
        let mut registry = self.registry.lock();
        let (index, named) = self.find(name).ok_or(ENOENT)?;
        if index == 0 {
            return Err(EBUSY);
        }
        named.check_owner(user)?;
        let withdrawn = self.withdraw(&mut registry, index, &named);
        drop(registry);
        drop(withdrawn);
        Ok(())
    }

    /// The list with the least index from `index` on. Any context but NMI.
    pub(crate) fn nth(&self, index: usize) -> Option<(usize, Arc<Named>)> {
        let rcu = rcu::read_lock();
        let found = self.table.iter(&rcu).find(|&(i, _)| i >= index);
        found.map(|(i, named)| (i, named.into()))
    }

    /// Whether `id` is in the union. Any context but NMI.
    pub(crate) fn union_has(&self, id: u32) -> bool {
        let rcu = rcu::read_lock();
        let mut included = false;
        for (_, named) in self.table.iter(&rcu).filter(|(_, named)| named.has(id)) {
            if named.rules() & abi::RULE_EXCLUDE != 0 {
                return false;
            }
            included = true;
        }
        included
    }

    /// The first member of the union from `from` on; after many members that are excluded, where to
    /// go on. Any context but NMI.
    pub(crate) fn union_next(&self, mut from: u32) -> Result<Option<u32>, u32> {
        let rcu = rcu::read_lock();
        for _ in 0..64 {
            let includes = |named: &Named| named.rules() & abi::RULE_EXCLUDE == 0;
            let next = self
                .table
                .iter(&rcu)
                .filter(|(_, named)| includes(named))
                .filter_map(|(_, named)| named.next(from))
                .min();
            let Some(next) = next else { return Ok(None) };
            if !self.table.iter(&rcu).any(|(_, named)| !includes(&named) && named.has(next)) {
                return Ok(Some(next));
            }
            from = next + 1;
        }
        Err(from)
    }

    /// What [`abi::LIST`] says of a list. Any context but NMI.
    pub(crate) fn describe(&self, index: usize, named: &Named) -> abi::List {
        abi::List {
            name: named.name,
            id: index as u32,
            owner: named.owner.in_current_namespace(),
            flags: if named.temporary { abi::OPEN_TEMPORARY } else { 0 },
            reserved: 0,
            stats: named.stats(),
        }
    }

    /// What [`abi::MODULE`] says. May sleep.
    pub(crate) fn totals(&self) -> abi::Module {
        let mut totals = abi::Module::default();
        {
            let registry = self.registry.lock();
            (totals.created, totals.deleted) = (registry.created, registry.deleted);
        }
        let rcu = rcu::read_lock();
        for (_, named) in self.table.iter(&rcu) {
            let stats = named.stats();
            totals.lists += 1;
            totals.bytes += stats.bytes;
            totals.members += stats.members;
            totals.failed += stats.failed;
            totals.repaired += stats.repaired;
            totals.overflowed += stats.overflowed;
            totals.found += stats.found;
            totals.followed += stats.followed;
            totals.left += stats.left;
            totals.refills += stats.refills;
        }
        totals
    }

    /// With `registry` held, but by [`Self::new`]. May sleep.
    fn insert(
        &self,
        index: usize,
        name: abi::Name,
        owner: Uid,
        temporary: bool,
        rules: u32,
        bytes_max: u64,
    ) -> Result<Arc<Named>> {
        let list = list::new(rules, bytes_max)?;
        let named = Arc::pin_init(
            pin_init!(Named { name, owner, temporary, descriptors: Atomic::new(0), list <- list }),
            GFP_KERNEL,
        )?;
        self.table.publish(index, named.clone());
        Ok(named)
    }

    /// With `registry` held; drop what it returns without, as that waits.
    fn withdraw(
        &self,
        registry: &mut Registry,
        index: usize,
        named: &Named,
    ) -> Option<Withdrawn<Named>> {
        named.end();
        registry.deleted += 1;
        self.table.withdraw(index)
    }

    fn find(&self, name: &abi::Name) -> Option<(usize, Arc<Named>)> {
        let rcu = rcu::read_lock();
        let found = self.table.iter(&rcu).find(|(_, named)| named.name == *name);
        found.map(|(i, named)| (i, named.into()))
    }

    /// With `registry` held.
    fn handle(self: &Arc<Self>, named: Arc<Named>) -> Handle {
        named.descriptors.fetch_add(1, Relaxed);
        Handle { lists: self.clone(), named }
    }
}

/// A descriptor's hold on its list. Its drop may sleep.
pub(crate) struct Handle {
    lists: Arc<Lists>,
    named: Arc<Named>,
}

impl Handle {
    /// One for another descriptor. May sleep.
    pub(crate) fn another(&self) -> Self {
        let _registry = self.lists.registry.lock();
        self.lists.handle(self.named.clone())
    }

    /// Removes the list, unless it was already. May sleep.
    pub(crate) fn remove(&self) {
        let mut registry = self.lists.registry.lock();
        let withdrawn = self.withdraw(&mut registry);
        drop(registry);
        drop(withdrawn);
    }

    fn withdraw(&self, registry: &mut Registry) -> Option<Withdrawn<Named>> {
        // It may have been removed by name, and the name be another's by now.
        let (index, named) = self.lists.find(&self.named.name)?;
        if !Arc::ptr_eq(&named, &self.named) {
            return None;
        }
        self.lists.withdraw(registry, index, &named)
    }

    /// All lists.
    pub(crate) fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }
}

impl core::ops::Deref for Handle {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.named
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut registry = self.lists.registry.lock();
        let last = self.named.descriptors.fetch_sub(1, Relaxed) == 1;
        let withdrawn = (last && self.named.temporary).then(|| self.withdraw(&mut registry));
        drop(registry);
        drop(withdrawn);
    }
}

impl TaskEvents for Lists {
    fn forked(&self, parent: Task<'_>, child: Task<'_>) {
        let rcu = rcu::read_lock();
        for (_, named) in self.table.iter(&rcu) {
            let kind = named.kind();
            if kind == Kind::Process && !child.is_leader() {
                continue;
            }
            if named.forked(parent.id(kind), child.id(kind), child.started_ns()) {
                named.request();
            }
        }
    }

    fn executed(&self, task: Task<'_>, old_tid: u32) {
        if old_tid == task.tid() {
            return;
        }
        let rcu = rcu::read_lock();
        for (_, named) in self.table.iter(&rcu) {
            if named.executed(old_tid, task) {
                named.request();
            }
        }
    }

    fn freed(&self, task: Task<'_>) {
        let was_displaced = task.was_displaced();
        let rcu = rcu::read_lock();
        for (_, named) in self.table.iter(&rcu) {
            if !was_displaced {
                named.freed(task);
            } else if named.displaced(task) {
                named.request();
            }
        }
    }
}
