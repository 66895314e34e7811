//! BPF iterators: a file that yields one record per kernel object.

use std::{
    io::{self, Read as _},
    sync::{Mutex, PoisonError},
};

use aya::{
    BtfError, Ebpf, EbpfLoader,
    programs::{Iter, ProgramError},
};
use bytemuck::Pod;

use crate::{Error, layout::Kernel, object::Object};

/// What the kernel gathers for one `read` at most (`bpf_seq_read()`: eight pages of 4 KiB). With
/// less, it walks its list again from the head for the rest.
const READ_BYTES: usize = 32 * 1024;

/// A read-only variable of the programs: its name and words.
type Global = (&'static str, Vec<u32>);

/// A program of the object that lists something.
pub struct Kind {
    program: &'static str,
    /// The kernel's `bpf_iter_…`.
    target: &'static str,
    what: &'static str,
    since: &'static str,
    /// The global with the layout, and its words.
    layout: fn(&Kernel) -> Result<Global, Error>,
}

/// A loaded iterator program.
#[derive(Debug)]
pub struct Iterator {
    object: Ebpf,
}

impl Iterator {
    pub const SLABS: Kind = Kind {
        program: "slabs",
        target: "kmem_cache",
        what: "slab caches",
        since: "6.13",
        layout: |kernel| Ok(("SLAB_LAYOUT", kernel.slab_layout()?.words().to_vec())),
    };
    pub const TASKS: Kind = Kind {
        program: "tasks",
        target: "task",
        what: "tasks",
        since: "5.8",
        layout: |kernel| {
            Ok((
                "TASK_LAYOUT",
                kernel.task_layout(0, false)?.words().to_vec(),
            ))
        },
    };

    fn load(kind: &Kind, object: &Object, kernel: &Kernel) -> Result<Self, Error> {
        let (name, layout) = (kind.layout)(kernel)?;
        let btf = kernel.btf()?;
        let mut loaded = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global(name, layout.as_slice(), true)
            .load(object.bytes())
            .map_err(|error| Error::load(object.origin(), error))?;
        match program(&mut loaded, kind, object)?.load(kind.target, &btf) {
            Ok(()) => Ok(Self { object: loaded }),
            Err(ProgramError::Btf(BtfError::UnknownBtfTypeName { .. })) => Err(Error::NoIterator {
                what: kind.what,
                since: kind.since,
            }),
            Err(error) => Err(Error::program(kind.program, error)),
        }
    }

    /// One walk, from the head of the kernel's list.
    fn walk(&mut self, kind: &Kind, object: &Object) -> Result<Vec<u8>, Error> {
        let program = program(&mut self.object, kind, object)?;
        let failed = |error| Error::program(kind.program, error);
        let link = program.attach().map_err(failed)?;
        let link = program.take_link(link).map_err(failed)?;
        let mut file = link.into_file().map_err(|error| Error::Loader {
            doing: format!("open the BPF iterator over {}", kind.what),
            reason: error.to_string(),
        })?;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(len) => bytes.extend_from_slice(&buffer[..len]),
                // EAGAIN: the kernel has passed a million objects without a record, and goes on.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) => {}
                Err(error) => {
                    return Err(Error::io(format!("read the list of {}", kind.what), error));
                }
            }
        }
    }
}

impl Kind {
    /// All records of one walk; loads the program into `slot` first, if it is empty.
    pub fn collect<T: Pod>(
        &self,
        slot: &Mutex<Option<Iterator>>,
        object: &Object,
        kernel: &Kernel,
    ) -> Result<Vec<T>, Error> {
        // A thread that panicked left a loaded program or none, both fine.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let iterator = match &mut *slot {
            Some(iterator) => iterator,
            none => none.insert(Iterator::load(self, object, kernel)?),
        };
        let bytes = iterator.walk(self, object)?;
        records(&bytes).ok_or_else(|| Error::BadObject {
            origin: object.origin().to_owned(),
            reason: format!("its records of {} have another size", self.what),
        })
    }
}

fn program<'a>(loaded: &'a mut Ebpf, kind: &Kind, object: &Object) -> Result<&'a mut Iter, Error> {
    loaded
        .program_mut(kind.program)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| Error::BadObject {
            origin: object.origin().to_owned(),
            reason: format!("it has no iterator `{}`", kind.program),
        })
}

/// None if the bytes are not a whole number of records.
fn records<T: Pod>(bytes: &[u8]) -> Option<Vec<T>> {
    let chunks = bytes.chunks_exact(size_of::<T>());
    if !chunks.remainder().is_empty() {
        return None;
    }
    Some(chunks.map(bytemuck::pod_read_unaligned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole() {
        assert_eq!(records::<u32>(&[1, 0, 0, 0, 2, 0, 0, 0]), Some(vec![1, 2]));
        assert_eq!(records::<u32>(&[]), Some(vec![]));
        assert_eq!(records::<u32>(&[1, 0, 0, 0, 2]), None);
    }
}
