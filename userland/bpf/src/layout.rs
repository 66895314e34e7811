//! The running kernel's layout, from its BTF.

use std::{cell::RefCell, collections::HashMap, fmt::Display, fs};

use aya::{Btf as LoaderBtf, Endianness};
use btf_rs::{Backend, Btf, BtfType as _, Type};
use pidlist_abi::layout::{ABSENT, Rule, SlabLayout, TaskLayout};

use crate::Error;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// The kernel's own, on 64-bit.
const PID_MAX_LIMIT: u32 = 1 << 22;
const NODES: &str = "/sys/devices/system/node/possible";
const CPUS: &str = "/sys/devices/system/cpu/possible";
/// `NR_CPUS` of distribution kernels, at most.
const CPUS_LIMIT: u32 = 8192;

/// The running kernel, which has told that it has BTF.
#[derive(Debug)]
pub struct Kernel(());

impl Kernel {
    pub fn read() -> Result<Self, Error> {
        Types::read().map(|_| Self(()))
    }

    /// For the loader, which has to name functions and tracepoints.
    ///
    /// Not kept: it takes some 30 MiB, for as long as the programs are needed, to save 20 ms a load.
    pub fn btf(&self) -> Result<LoaderBtf, Error> {
        LoaderBtf::parse_file(BTF, Endianness::default()).map_err(no_btf)
    }

    /// Finds kernel functions by name: their ids.
    pub fn functions(&self) -> Result<impl Fn(&str) -> Option<u32> + use<>, Error> {
        let types = Types::read()?;
        Ok(move |name: &str| types.function(name))
    }

    /// The layout for `iter/kmem_cache`.
    pub fn slab_layout(&self) -> Result<SlabLayout, Error> {
        let nodes = possible_nodes();
        let types = Types::read()?;
        SlabLayout::resolve(|word, rule| match (word, rule) {
            ("nodes", _) => Ok(nodes),
            _ => types.word(word, rule),
        })
    }

    /// The layout for tasks and events. `wake_bytes` and `with_env` as in [`TaskLayout`].
    pub fn task_layout(&self, wake_bytes: u32, with_env: bool) -> Result<TaskLayout, Error> {
        let types = Types::read()?;
        TaskLayout::resolve(|word, rule| match (word, rule) {
            ("page_kib", _) => Ok((rustix::param::page_size() / 1024) as u32),
            ("wake_bytes", _) => Ok(wake_bytes),
            ("with_env", _) => Ok(u32::from(with_env)),
            _ => types.word(word, rule),
        })
    }
}

/// What thread ids are below of, at the time.
pub fn thread_ids() -> u32 {
    let limit = fs::read_to_string(PID_MAX).ok();
    let limit = limit.and_then(|text| text.trim().parse().ok());
    limit.unwrap_or(PID_MAX_LIMIT)
}

/// What processor ids are below of, for as long as the kernel runs.
pub fn processor_ids() -> u32 {
    let list = fs::read_to_string(CPUS).unwrap_or_default();
    last_of(&list).map_or(CPUS_LIMIT, |last| last + 1)
}

fn no_btf(error: impl Display) -> Error {
    Error::NoBtf {
        path: BTF,
        reason: error.to_string(),
    }
}

/// Elements that the kernel's per-node arrays have; one without `CONFIG_NUMA`.
fn possible_nodes() -> u32 {
    let list = fs::read_to_string(NODES).unwrap_or_default();
    last_of(&list).map_or(1, |last| last + 1)
}

/// The last number of a list like `0-3,8`.
fn last_of(list: &str) -> Option<u32> {
    list.trim()
        .rsplit([',', '-'])
        .next()
        .and_then(|last| last.parse().ok())
}

/// Types of a kernel, by name.
struct Types {
    btf: Btf,
    /// A look-up by name walks all types.
    roots: RefCell<HashMap<String, Option<Type>>>,
}

/// A place inside a struct.
struct Place {
    offset: u32,
    r#type: Type,
}

impl Types {
    fn read() -> Result<Self, Error> {
        // Mapping takes 2 ms, parsing everything takes 160; sysfs can be mapped since 6.16.
        let btf = Btf::from_file_with_backend(BTF, Backend::Mmap)
            .or_else(|_| Btf::from_file(BTF))
            .map_err(no_btf)?;
        Ok(Self::new(btf))
    }

    fn new(btf: Btf) -> Self {
        Self {
            btf,
            roots: RefCell::default(),
        }
    }

    fn word(&self, word: &'static str, rule: Rule) -> Result<u32, Error> {
        let unknown = |path: &str| Error::UnknownLayout {
            word,
            path: path.to_owned(),
        };
        match rule {
            Rule::Offset(paths) => self
                .first(paths)
                .map(|place| place.offset)
                .ok_or_else(|| unknown(paths[0])),
            Rule::OffsetIfAny(paths) => Ok(self.first(paths).map_or(ABSENT, |place| place.offset)),
            Rule::ElementSize(paths) => self
                .first(paths)
                .and_then(|place| self.element(&place.r#type))
                .and_then(|element| self.size(&element))
                .ok_or_else(|| unknown(paths[0])),
            Rule::ElementOffset(path, r#enum, enumerator) => {
                let place = self.place(path).ok_or_else(|| unknown(path))?;
                let size = self
                    .element(&place.r#type)
                    .and_then(|element| self.size(&element))
                    .ok_or_else(|| unknown(path))?;
                let index = self
                    .enumerator(r#enum, enumerator)
                    .ok_or_else(|| unknown(enumerator))?;
                Ok(place.offset + index * size)
            }
            Rule::MoreArguments(tracepoint, arguments) => {
                let had = self
                    .arguments(tracepoint)
                    .ok_or_else(|| unknown(tracepoint))?;
                Ok(u32::from(had > arguments))
            }
            Rule::Given => Err(unknown("a value that the loader has to give")),
        }
    }

    fn first(&self, paths: &[&str]) -> Option<Place> {
        paths.iter().find_map(|path| self.place(path))
    }

    /// Follows `struct.member[].member`.
    fn place(&self, path: &str) -> Option<Place> {
        let mut steps = path.split('.');
        let mut place = Place {
            offset: 0,
            r#type: self.root(steps.next()?)?,
        };
        for step in steps {
            let name = step.trim_end_matches("[]");
            let member = self.member(&place.r#type, name)?;
            place.offset += member.offset;
            place.r#type = member.r#type;
            if step.ends_with("[]") {
                place.r#type = self.element(&place.r#type)?;
            }
        }
        Some(place)
    }

    /// A struct or enum by name.
    fn root(&self, name: &str) -> Option<Type> {
        let mut roots = self.roots.borrow_mut();
        if let Some(known) = roots.get(name) {
            return known.clone();
        }
        let found = self.btf.resolve_types_by_name(name).ok().and_then(|types| {
            types.into_iter().find(|t| match t {
                Type::Struct(s) | Type::Union(s) => s.size() > 0,
                Type::Enum(_) | Type::Typedef(_) => true,
                _ => false,
            })
        });
        roots.insert(name.to_owned(), found.clone());
        found
    }

    /// A member by name, also inside anonymous members. A bit field has no place.
    fn member(&self, of: &Type, name: &str) -> Option<Place> {
        let (Type::Struct(of) | Type::Union(of)) = of else {
            return None;
        };
        for member in &of.members {
            let Ok(r#type) = self.btf.resolve_chained_type(member) else {
                continue;
            };
            let r#type = self.bare(r#type)?;
            let offset = member.bit_offset() / 8;
            let its_name = self.btf.resolve_name(member).unwrap_or_default();
            if its_name == name {
                if member.bitfield_size().is_some_and(|bits| bits != 0) {
                    return None;
                }
                return Some(Place { offset, r#type });
            }
            if its_name.is_empty()
                && let Some(inner) = self.member(&r#type, name)
            {
                return Some(Place {
                    offset: offset + inner.offset,
                    ..inner
                });
            }
        }
        None
    }

    /// The type without names and qualifiers.
    fn bare(&self, mut of: Type) -> Option<Type> {
        loop {
            of = match &of {
                Type::Typedef(t) => self.btf.resolve_chained_type(t).ok()?,
                Type::Volatile(t) | Type::Const(t) | Type::Restrict(t) => {
                    self.btf.resolve_chained_type(t).ok()?
                }
                Type::TypeTag(t) => self.btf.resolve_chained_type(t).ok()?,
                _ => return Some(of),
            };
        }
    }

    fn element(&self, array: &Type) -> Option<Type> {
        match array {
            Type::Array(array) => {
                self.bare(self.btf.resolve_type_by_id(array.get_type_id()?).ok()?)
            }
            _ => None,
        }
    }

    fn size(&self, of: &Type) -> Option<u32> {
        match of {
            Type::Struct(t) | Type::Union(t) => Some(t.size() as u32),
            Type::Int(t) => Some(t.size() as u32),
            Type::Ptr(_) => Some(size_of::<usize>() as u32),
            _ => None,
        }
    }

    fn enumerator(&self, r#enum: &str, name: &str) -> Option<u32> {
        let Type::Enum(r#enum) = self.root(r#enum)? else {
            return None;
        };
        let has_name = |member: &&btf_rs::EnumMember| {
            self.btf.resolve_name(*member).is_ok_and(|its| its == name)
        };
        r#enum
            .members
            .iter()
            .find(has_name)
            .map(|member| member.val())
    }

    /// The id of a function.
    fn function(&self, name: &str) -> Option<u32> {
        let ids = self.btf.resolve_ids_by_name(name).ok()?;
        ids.into_iter()
            .find(|id| matches!(self.btf.resolve_type_by_id(*id), Ok(Type::Func(_))))
    }

    /// Arguments of a tracepoint: its `btf_trace_…` points to a function that takes one more.
    fn arguments(&self, tracepoint: &str) -> Option<u32> {
        let Type::Ptr(pointer) = self.bare(self.root(tracepoint)?)? else {
            return None;
        };
        let function = self.btf.resolve_chained_type(&pointer).ok()?;
        match self.bare(function)? {
            Type::FuncProto(function) => (function.parameters.len() as u32).checked_sub(1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_node_counts() {
        assert_eq!(last_of("0\n"), Some(0));
        assert_eq!(last_of("0-3\n"), Some(3));
        assert_eq!(last_of("0-3,8\n"), Some(8));
        assert_eq!(last_of("\n"), None);
    }

    /// Needs no right, only a kernel that has BTF.
    #[test]
    fn this_kernel_has_every_place() {
        let Ok(types) = Types::read() else {
            // Past the capture of output: nobody should take this for a pass.
            let skip = format!("SKIP this_kernel_has_every_place: {BTF} cannot be read\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), skip.as_bytes());
            return;
        };
        let find = |word, rule| match rule {
            Rule::Given => Ok(1),
            _ => types.word(word, rule),
        };
        let tasks = TaskLayout::resolve(find).unwrap();
        assert_ne!(tasks.pid, tasks.tgid);
        assert_eq!(tasks.session - tasks.pgrp, size_of::<usize>() as u32);
        assert_eq!(tasks.upid_size, 16);
        let slabs = SlabLayout::resolve(find).unwrap();
        assert!(slabs.node_stride.is_multiple_of(8), "{slabs:?}");
        assert!(slabs.node > slabs.oo, "{slabs:?}");
    }

    #[test]
    fn an_unknown_place_is_named_or_absent() {
        let Ok(types) = Types::read() else {
            return;
        };
        let error = types
            .word("what", Rule::Offset(&["task_struct.nothing"]))
            .unwrap_err();
        assert!(error.to_string().contains("task_struct.nothing"), "{error}");
        let optional = Rule::OffsetIfAny(&["task_struct.nothing", "no_struct.tgid"]);
        assert_eq!(types.word("what", optional).unwrap(), ABSENT);
        // A bit field has no byte of its own.
        let bits = Rule::OffsetIfAny(&["task_struct.in_execve"]);
        assert_eq!(types.word("what", bits).unwrap(), ABSENT);
    }
}
