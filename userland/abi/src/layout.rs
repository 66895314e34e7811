//! Where the running kernel keeps what the BPF programs read.
//!
//! rustc emits no CO-RE relocations, so the loader looks every place up in the kernel's BTF and
//! hands the answers to the programs as read-only globals of these types. The verifier takes such
//! a global for a constant: a branch on an [`ABSENT`] place is never even checked.

/// A place that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// How the loader finds one word of a layout.
///
/// A path is `struct.member.member`; `[]` after a member steps into the first element of an array.
/// Anonymous structs and unions are seen through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Byte offset, from the start of the struct, of the first path that exists.
    Offset(&'static [&'static str]),
    /// Like [`Rule::Offset`], but a kernel without it is served, too: the word is [`ABSENT`].
    OffsetIfAny(&'static [&'static str]),
    /// Bytes of an element of the array that the first existing path names.
    ElementSize(&'static [&'static str]),
    /// Byte offset of the element that an enumerator counts out: array path, enum, enumerator.
    ElementOffset(&'static str, &'static str, &'static str),
    /// 1 if a tracepoint has more arguments than this, else 0: tracepoint, arguments.
    MoreArguments(&'static str, u32),
    /// Not from BTF: the loader knows.
    Given,
}

macro_rules! layout {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $field:ident = $rule:expr,)+ }) => {
        $(#[$outer])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $type { $($(#[$doc])* pub $field: u32,)+ }

        impl $type {
            /// Nothing is known yet.
            pub const ABSENT: Self = Self { $($field: ABSENT,)+ };

            /// The name of each word and how it is found, in the order of the struct.
            pub const RULES: &[(&str, Rule)] = &[$((stringify!($field), $rule),)+];

            /// Makes a layout of what `find` says for each of [`Self::RULES`].
            ///
            /// # Errors
            ///
            /// The first error of `find`.
            pub fn resolve<E>(
                mut find: impl FnMut(&'static str, Rule) -> Result<u32, E>,
            ) -> Result<Self, E> {
                Ok(Self { $($field: find(stringify!($field), $rule)?,)+ })
            }

            /// The words, as the programs' global holds them.
            pub fn words(&self) -> [u32; Self::RULES.len()] {
                [$(self.$field,)+]
            }
        }
    };
}

use Rule::{ElementOffset, ElementSize, Given, MoreArguments, Offset, OffsetIfAny};

/// Kernel functions (kfuncs) that the programs call, and the loader fills in.
///
/// A kfunc is called by its id in the running kernel's BTF. rustc cannot know it, so the programs
/// call helpers with these numbers, which no kernel has.
pub mod kfunc {
    /// `bpf_preempt_disable()`, since 6.10.
    pub const PREEMPT_DISABLE: i32 = 0x7069_6401;
    /// `bpf_preempt_enable()`, since 6.10.
    pub const PREEMPT_ENABLE: i32 = 0x7069_6402;
    /// Number and name of each.
    pub const ALL: [(i32, &str); 2] = [
        (PREEMPT_DISABLE, "bpf_preempt_disable"),
        (PREEMPT_ENABLE, "bpf_preempt_enable"),
    ];
}

/// Thread ids that one value of the map `MARKS` has a byte for.
pub const MARKS_PER_VALUE: u32 = 4096;

layout! {
    /// For `iter/kmem_cache`.
    SlabLayout {
        /// `struct kmem_cache`.
        name = Offset(&["kmem_cache.name"]),
        /// `struct kmem_cache`.
        size = Offset(&["kmem_cache.size"]),
        /// `struct kmem_cache`.
        object_size = Offset(&["kmem_cache.object_size"]),
        /// Order and objects of a slab in one word.
        oo = Offset(&["kmem_cache.oo.x"]),
        /// `struct kmem_cache`.
        flags = Offset(&["kmem_cache.flags"]),
        /// `struct kmem_cache`.
        align = Offset(&["kmem_cache.align"]),
        /// `struct kmem_cache`.
        refcount = Offset(&["kmem_cache.refcount"]),
        /// Pointer to the first node: `per_node[]` since 7.2.
        node = OffsetIfAny(&["kmem_cache.per_node[].node", "kmem_cache.node"]),
        /// Bytes from one node's pointer to the next.
        node_stride = ElementSize(&["kmem_cache.per_node", "kmem_cache.node"]),
        /// `struct kmem_cache_node`.
        nr_partial = OffsetIfAny(&["kmem_cache_node.nr_partial"]),
        /// `struct kmem_cache_node`, only with `CONFIG_SLUB_DEBUG`.
        nr_slabs = OffsetIfAny(&["kmem_cache_node.nr_slabs.counter"]),
        /// `struct kmem_cache_node`, only with `CONFIG_SLUB_DEBUG`.
        total_objects = OffsetIfAny(&["kmem_cache_node.total_objects.counter"]),
        /// Nodes that the machine may have: as many elements `node[]` has.
        nodes = Given,
    }
}

layout! {
    /// For `iter/task` and the events.
    TaskLayout {
        /// `struct task_struct`.
        pid = Offset(&["task_struct.pid"]),
        /// `struct task_struct`.
        tgid = Offset(&["task_struct.tgid"]),
        /// `struct task_struct`.
        flags = Offset(&["task_struct.flags"]),
        /// `struct task_struct`.
        exit_code = Offset(&["task_struct.exit_code"]),
        /// `struct task_struct`; nanoseconds.
        start_boottime = Offset(&["task_struct.start_boottime", "task_struct.real_start_time"]),
        /// `struct task_struct`.
        group_leader = Offset(&["task_struct.group_leader"]),
        /// `struct task_struct`.
        real_parent = Offset(&["task_struct.real_parent"]),
        /// `struct task_struct`: goes up by one with every exec.
        self_exec_id = Offset(&["task_struct.self_exec_id"]),
        /// `struct task_struct`.
        signal = Offset(&["task_struct.signal"]),
        /// `struct task_struct`.
        thread_pid = Offset(&["task_struct.thread_pid"]),
        /// Link in `signal_struct.thread_head`.
        thread_node = Offset(&["task_struct.thread_node"]),
        /// `struct task_struct`.
        real_cred = Offset(&["task_struct.real_cred"]),
        /// `struct task_struct`.
        mm = Offset(&["task_struct.mm"]),
        /// `struct task_struct`.
        comm = Offset(&["task_struct.comm"]),
        /// `struct task_struct`; nanoseconds.
        utime = Offset(&["task_struct.utime"]),
        /// `struct task_struct`; nanoseconds.
        stime = Offset(&["task_struct.stime"]),
        /// `struct task_struct`; nanoseconds.
        sum_exec_runtime = Offset(&["task_struct.se.sum_exec_runtime"]),
        /// `struct task_struct`.
        min_flt = Offset(&["task_struct.min_flt"]),
        /// `struct task_struct`.
        maj_flt = Offset(&["task_struct.maj_flt"]),
        /// `struct task_struct`.
        nvcsw = Offset(&["task_struct.nvcsw"]),
        /// `struct task_struct`.
        nivcsw = Offset(&["task_struct.nivcsw"]),
        /// `struct task_struct`, only with `CONFIG_TASK_IO_ACCOUNTING`.
        read_bytes = OffsetIfAny(&["task_struct.ioac.read_bytes"]),
        /// `struct task_struct`, only with `CONFIG_TASK_IO_ACCOUNTING`.
        write_bytes = OffsetIfAny(&["task_struct.ioac.write_bytes"]),
        /// `struct task_struct`.
        state = Offset(&["task_struct.__state", "task_struct.state"]),
        /// `struct task_struct`.
        exit_state = Offset(&["task_struct.exit_state"]),
        /// `struct task_struct`.
        exit_signal = Offset(&["task_struct.exit_signal"]),
        /// `struct task_struct`.
        fs = Offset(&["task_struct.fs"]),
        /// `struct task_struct`, only with `CONFIG_CGROUPS`.
        cgroups = OffsetIfAny(&["task_struct.cgroups"]),
        /// `struct css_set`.
        dfl_cgrp = OffsetIfAny(&["css_set.dfl_cgrp"]),
        /// `struct cgroup`.
        cgroup_kn = OffsetIfAny(&["cgroup.kn"]),
        /// `struct kernfs_node`.
        kn_id = OffsetIfAny(&["kernfs_node.id"]),
        /// `struct signal_struct`: threads that have not exited.
        live = Offset(&["signal_struct.live.counter"]),
        /// `struct signal_struct`.
        thread_head = Offset(&["signal_struct.thread_head"]),
        /// `struct signal_struct`.
        signal_flags = Offset(&["signal_struct.flags"]),
        /// `struct signal_struct`.
        group_exit_code = Offset(&["signal_struct.group_exit_code"]),
        /// `struct signal_struct`: of threads that are gone; nanoseconds.
        signal_utime = Offset(&["signal_struct.utime"]),
        /// `struct signal_struct`: of threads that are gone; nanoseconds.
        signal_stime = Offset(&["signal_struct.stime"]),
        /// `struct signal_struct`: of threads that are gone; nanoseconds.
        sum_sched_runtime = Offset(&["signal_struct.sum_sched_runtime"]),
        /// `struct signal_struct`: of threads that are gone.
        signal_min_flt = Offset(&["signal_struct.min_flt"]),
        /// `struct signal_struct`: of threads that are gone.
        signal_maj_flt = Offset(&["signal_struct.maj_flt"]),
        /// `struct signal_struct`: of threads that are gone.
        signal_nvcsw = Offset(&["signal_struct.nvcsw"]),
        /// `struct signal_struct`: of threads that are gone.
        signal_nivcsw = Offset(&["signal_struct.nivcsw"]),
        /// `struct signal_struct`: of threads that are gone.
        signal_read_bytes = OffsetIfAny(&["signal_struct.ioac.read_bytes"]),
        /// `struct signal_struct`: of threads that are gone.
        signal_write_bytes = OffsetIfAny(&["signal_struct.ioac.write_bytes"]),
        /// `struct signal_struct`; pages.
        maxrss = OffsetIfAny(&["signal_struct.maxrss"]),
        /// `struct signal_struct`, only with `CONFIG_TTY`.
        tty = OffsetIfAny(&["signal_struct.tty"]),
        /// `signal_struct.pids[PIDTYPE_PGID]`.
        pgrp = ElementOffset("signal_struct.pids", "pid_type", "PIDTYPE_PGID"),
        /// `signal_struct.pids[PIDTYPE_SID]`.
        session = ElementOffset("signal_struct.pids", "pid_type", "PIDTYPE_SID"),
        /// `struct tty_struct`.
        tty_index = OffsetIfAny(&["tty_struct.index"]),
        /// `struct tty_struct`.
        tty_driver = OffsetIfAny(&["tty_struct.driver"]),
        /// `struct tty_driver`.
        driver_major = OffsetIfAny(&["tty_driver.major"]),
        /// `struct tty_driver`.
        driver_minor_start = OffsetIfAny(&["tty_driver.minor_start"]),
        /// `struct pid`.
        pid_level = Offset(&["pid.level"]),
        /// `struct pid`: the first of an array of `struct upid`.
        pid_numbers = Offset(&["pid.numbers"]),
        /// Bytes of `struct upid`.
        upid_size = ElementSize(&["pid.numbers"]),
        /// `struct upid`.
        upid_nr = Offset(&["upid.nr"]),
        /// `struct upid`.
        upid_ns = Offset(&["upid.ns"]),
        /// `struct pid_namespace`.
        ns_inum = Offset(&["pid_namespace.ns.inum"]),
        /// `struct cred`.
        cred_uid = Offset(&["cred.uid"]),
        /// `struct cred`.
        cred_gid = Offset(&["cred.gid"]),
        /// `struct cred`.
        cred_euid = Offset(&["cred.euid"]),
        /// `struct cred`.
        cred_egid = Offset(&["cred.egid"]),
        /// `struct cred`.
        cred_suid = Offset(&["cred.suid"]),
        /// `struct cred`.
        cred_sgid = Offset(&["cred.sgid"]),
        /// `struct cred`.
        cred_fsuid = Offset(&["cred.fsuid"]),
        /// `struct cred`.
        cred_fsgid = Offset(&["cred.fsgid"]),
        /// `struct cred`.
        cap_effective = Offset(&["cred.cap_effective"]),
        /// `struct cred`.
        cap_permitted = Offset(&["cred.cap_permitted"]),
        /// `struct cred`.
        cap_inheritable = Offset(&["cred.cap_inheritable"]),
        /// `struct cred`.
        cap_bounding = Offset(&["cred.cap_bset"]),
        /// `struct cred`.
        cap_ambient = Offset(&["cred.cap_ambient"]),
        /// `struct mm_struct`.
        arg_start = Offset(&["mm_struct.arg_start"]),
        /// `struct mm_struct`.
        arg_end = Offset(&["mm_struct.arg_end"]),
        /// `struct mm_struct`.
        env_start = Offset(&["mm_struct.env_start"]),
        /// `struct mm_struct`.
        env_end = Offset(&["mm_struct.env_end"]),
        /// `struct mm_struct`.
        exe_file = Offset(&["mm_struct.exe_file"]),
        /// `struct file`.
        file_path = Offset(&["file.f_path"]),
        /// `struct file`.
        file_inode = Offset(&["file.f_inode"]),
        /// `struct inode`.
        inode_number = Offset(&["inode.i_ino"]),
        /// `struct inode`.
        inode_nlink = Offset(&["inode.i_nlink"]),
        /// `struct inode`.
        inode_sb = Offset(&["inode.i_sb"]),
        /// `struct super_block`.
        sb_dev = Offset(&["super_block.s_dev"]),
        /// `struct fs_struct`.
        fs_pwd = Offset(&["fs_struct.pwd"]),
        /// `struct path`.
        path_mnt = Offset(&["path.mnt"]),
        /// `struct path`.
        path_dentry = Offset(&["path.dentry"]),
        /// `struct dentry`.
        dentry_parent = Offset(&["dentry.d_parent"]),
        /// `struct dentry`.
        dentry_name = Offset(&["dentry.d_name.name"]),
        /// `struct vfsmount`.
        mnt_root = Offset(&["vfsmount.mnt_root"]),
        /// `struct vfsmount`, in a `struct mount`.
        mount_mnt = Offset(&["mount.mnt"]),
        /// `struct mount`.
        mount_parent = Offset(&["mount.mnt_parent"]),
        /// `struct mount`.
        mount_point = Offset(&["mount.mnt_mountpoint"]),
        /// `struct mm_struct`; pages.
        hiwater_rss = OffsetIfAny(&["mm_struct.hiwater_rss"]),
        /// `struct linux_binprm`.
        bprm_filename = Offset(&["linux_binprm.filename"]),
        /// 1 if `sched_process_exit` tells whether the whole group is dead (its second argument).
        has_group_dead = MoreArguments("btf_trace_sched_process_exit", 1),
        /// KiB of a page.
        page_kib = Given,
        /// Bytes in the ring buffer from which on its reader is woken; 0: the kernel decides,
        /// at every record that finds a reader that has caught up.
        wake_bytes = Given,
        /// 1 if the environment is wanted.
        with_env = Given,
    }
}
