//! Who may do what, where the device is open to everyone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use pidlist_abi::pidset as abi;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Uid;

use super::{State, has_members, refused, start};
use crate::Test;
use crate::helper::Helper;
use crate::sys::device::{Device, PATH};
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "rights: the device is for root alone",
        the_device_is_for_root,
    ),
    ("rights: a user may look at everything", a_user_may_look),
    (
        "rights: a user may not change another's lists",
        a_user_may_not_change,
    ),
    ("rights: a user has lists of his own", a_user_has_lists),
    (
        "rights: a user may have 16 lists",
        a_user_may_have_a_number_of_lists,
    ),
    (
        "rights: they are those of the opener",
        they_are_those_of_the_opener,
    ),
    (
        "rights: root of a user namespace is a user",
        root_of_a_namespace,
    ),
];

const NOBODY: u32 = 65534;

/// The device, open to everyone.
struct Everyone;

impl Everyone {
    fn new() -> Result<Self> {
        fs::set_permissions(PATH, Permissions::from_mode(0o666))?;
        Ok(Self)
    }
}

impl Drop for Everyone {
    fn drop(&mut self) {
        let _ = fs::set_permissions(PATH, Permissions::from_mode(0o600));
    }
}

/// Runs `f` in a thread of another user, without any capability.
fn as_user<T: Send>(uid: u32, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_res_uid(None, Uid::from_raw(uid), None)?;
            f()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread panicked")))
    })
}

fn the_device_is_for_root() -> Result<()> {
    start()?;
    let mode = fs::metadata(PATH)?.permissions().mode();
    ensure!(mode & 0o7777 == 0o600, "its mode is {mode:o}");
    as_user(NOBODY, || {
        refused("opening", Device::open_with(OFlags::RDONLY), Errno::ACCESS)
    })
}

fn a_user_may_look() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let roots = device.create("roots", 0)?;
    roots.add(&[process.pid()])?;
    let _everyone = Everyone::new()?;
    as_user(NOBODY, || {
        let theirs = Device::open_with(OFlags::RDONLY)?;
        ensure!(theirs.info()?.version == abi::VERSION);
        ensure!(theirs.lists()?.len() == 2 && theirs.module()?.lists == 2);
        ensure!(theirs.lists()?["roots"].owner == 0);
        let list = theirs.list("roots")?;
        has_members(&list, [process.pid()])?;
        has_members(&theirs.union()?, [process.pid()])?;
        ensure!(list.has(process.pid())? && list.stats()?.members == 1);
        ensure!(list.read()? == format!("{}\n", process.pid()));
        let events = list.events(0)?.nonblocking()?;
        roots.remove(&[process.pid()])?;
        let seen = events.ready()?;
        ensure!(
            seen.len() == 1 && seen[0].kind == abi::EVENT_REMOVED,
            "{seen:?}"
        );
        Ok(())
    })
}

fn a_user_may_not_change() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    device.add(&[pid])?;
    device.create("roots", 0)?.add(&[pid])?;
    let _everyone = Everyone::new()?;
    as_user(1000, || {
        Ok(Device::open()?.create("others", 0)?.add(&[pid])?)
    })?;
    ensure!(device.lists()?["others"].owner == 1000);
    let state = State::of(&device)?;
    as_user(NOBODY, || {
        let theirs = Device::open()?;
        for name in [abi::DEFAULT_LIST, "roots", "others"] {
            let list = theirs.list(name)?;
            let not_permitted =
                |what: &str, result| refused(&format!("{what} on {name}"), result, Errno::PERM);
            not_permitted("ADD", list.add(&[pid]))?;
            not_permitted("ADD of a tree", list.add_trees(&[pid]))?;
            not_permitted("REMOVE", list.remove(&[pid]))?;
            not_permitted("CLEAR", list.clear())?;
            not_permitted("RULES", list.set_rules(abi::RULE_FOLLOW, 0))?;
            not_permitted("text", list.write(&format!("!{pid}\n")))?;
            if name != abi::DEFAULT_LIST {
                not_permitted("DELETE", theirs.delete(name))?;
            }
        }
        // Which of two reasons is said first is nobody's business.
        ensure!(theirs.delete(abi::DEFAULT_LIST).is_err());
        Ok(())
    })?;
    state.is_kept(&device)?;
    // Root may change what is another's.
    device.list("others")?.remove(&[pid])?;
    has_members(&device.list("others")?, [])?;
    device.delete("others")?;
    Ok(())
}

fn a_user_has_lists() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    let _everyone = Everyone::new()?;
    as_user(NOBODY, || {
        let theirs = Device::open()?;
        let list = theirs.create("own", 0)?;
        // Another's process, too: a list says nothing to its members.
        list.add(&[pid])?;
        list.set_rules(abi::RULE_FOLLOW, abi::BYTES_MIN)?;
        list.write(&format!("!{pid} {pid}\n"))?;
        has_members(&list, [pid])?;
        list.remove(&[pid])?;
        list.clear()?;
        ensure!(theirs.lists()?["own"].owner == NOBODY);
        Ok(())
    })?;
    // Opened again, it is still the same user's.
    as_user(NOBODY, || {
        let theirs = Device::open()?;
        theirs.list("own")?.add(&[pid])?;
        theirs.delete("own")?;
        Ok(())
    })?;
    ensure!(device.lists()?.len() == 1);
    Ok(())
}

fn a_user_may_have_a_number_of_lists() -> Result<()> {
    let device = start()?;
    let _everyone = Everyone::new()?;
    let theirs = as_user(NOBODY, || {
        let theirs = Device::open()?;
        for i in 0..abi::LISTS_MAX_PER_USER {
            theirs.create(&format!("own-{i}"), 0)?;
        }
        refused("one more", theirs.create("own", 0), Errno::NOSPC)?;
        refused(
            "one more, a temporary one",
            theirs.create_with("own", abi::OPEN_TEMPORARY, 0, abi::BYTES_MIN),
            Errno::NOSPC,
        )?;
        Ok(theirs)
    })?;
    // Others are not kept from theirs.
    as_user(1000, || {
        Ok(Device::open()?.create("others", 0).map(drop)?)
    })?;
    for i in 0..2 * abi::LISTS_MAX_PER_USER {
        device.create(&format!("roots-{i}"), 0)?;
    }
    // What root removes, too, makes room.
    device.delete("own-3")?;
    as_user(NOBODY, || {
        theirs.create("own", 0)?;
        refused("one more again", theirs.create("own-3", 0), Errno::NOSPC)?;
        theirs.delete("own-4")?;
        theirs.create("own-4", 0)?;
        Ok(())
    })?;
    let own = device
        .lists()?
        .values()
        .filter(|list| list.owner == NOBODY)
        .count();
    ensure!(own == abi::LISTS_MAX_PER_USER as usize, "{own} lists");
    start().map(drop)
}

fn they_are_those_of_the_opener() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    let _everyone = Everyone::new()?;
    let (theirs, own) = as_user(NOBODY, || {
        let theirs = Device::open()?;
        let own = theirs.create("own", 0)?;
        // What root opened may be used as root would.
        device.add(&[pid])?;
        Ok((theirs, own))
    })?;
    has_members(&device, [pid])?;
    // What another opened may not, not even by root.
    refused("ADD", theirs.add(&[pid]), Errno::PERM)?;
    refused("CLEAR", theirs.clear(), Errno::PERM)?;
    refused("text", theirs.write(&format!("!{pid}\n")), Errno::PERM)?;
    own.add(&[pid])?;
    has_members(&own, [pid])?;
    has_members(&device, [pid])
}

fn root_of_a_namespace() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    device.create("roots", 0)?;
    let _everyone = Everyone::new()?;
    let mut theirs = Helper::start(&["user-namespace", &NOBODY.to_string(), "serve"])?;
    theirs.line().context("a user namespace")?;
    let state = State::of(&device)?;
    for order in [format!("add {pid}"), "clear".into(), "delete roots".into()] {
        refused(&order, theirs.order(&order)?, Errno::PERM)?;
    }
    state.is_kept(&device)?;
    theirs.order("create own")??;
    theirs.order(&format!("add {pid}"))??;
    has_members(&device.list("own")?, [pid])?;
    // Owners are numbered as the one who asks numbers them; root is nobody there.
    ensure!(device.lists()?["own"].owner == NOBODY);
    ensure!(theirs.order_number("owner own")? == 0);
    ensure!(theirs.order_number("owner roots")? == NOBODY);
    theirs.order("delete own")??;
    theirs.finish().map(drop)
}
