//! Filling in the kernel functions that the programs call.
//!
//! aya loads calls of helpers, not of kfuncs: those are marked in the instruction, and name the
//! function by the id that the running kernel's BTF has for it. A kernel without these functions
//! (before 6.10) leaves preemption off in tracepoints anyway, so there the calls do nothing.

use std::borrow::Cow;

use object::{Object as _, ObjectSection as _, SectionKind};
use pidlist_abi::layout::kfunc::ALL;

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL`, as the source register.
const KFUNC: u8 = 2 << 4;
/// `BPF_ALU64 | BPF_MOV | BPF_K`, here of zero to the register of results.
const MOV: u8 = 0xb7;

/// The ELF file, in which the placeholder calls of [`ALL`] are now calls of what `id_of` says, or do
/// nothing where it knows no such function.
///
/// # Errors
///
/// It is no ELF file.
pub fn fill_in<'a>(
    elf: &'a [u8],
    id_of: impl Fn(&str) -> Option<u32>,
) -> Result<Cow<'a, [u8]>, object::Error> {
    let code: Vec<_> = object::File::parse(elf)?
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .filter_map(|section| section.file_range())
        .collect();
    let ids = ALL.map(|(number, name)| (number, id_of(name)));
    let mut filled = Cow::Borrowed(elf);
    for (start, len) in code {
        for at in (start..start + len).step_by(8) {
            let at = at as usize;
            let Some(instruction) = elf.get(at..at + 8) else {
                break;
            };
            if instruction[..2] != [CALL, 0] {
                continue;
            }
            let number = i32::from_ne_bytes([4, 5, 6, 7].map(|byte| instruction[byte]));
            if let Some((_, id)) = ids.iter().find(|(placeholder, _)| *placeholder == number) {
                let (head, operand) = match id {
                    Some(id) => ([CALL, KFUNC], *id),
                    None => ([MOV, 0], 0),
                };
                let filled = &mut filled.to_mut()[at..at + 8];
                filled[..2].copy_from_slice(&head);
                filled[4..].copy_from_slice(&operand.to_ne_bytes());
            }
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use pidlist_abi::layout::kfunc::{PREEMPT_DISABLE, PREEMPT_ENABLE};

    use super::*;

    /// An ELF file with one section of code, 64 bytes in, with these instructions.
    fn elf(code: &[[u8; 8]]) -> Vec<u8> {
        const NAMES: &[u8] = b"\0names\0code\0";
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &[1, 0, 247, 0, 1]);
        put(52, &[64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 1, 0]);
        file.extend(code.as_flattened());
        let names = file.len();
        file.extend(NAMES);
        let sections = file.len().next_multiple_of(8);
        file.resize(sections, 0);
        file[40..48].copy_from_slice(&(sections as u64).to_le_bytes());
        let mut section = |name: u32, kind: u32, flags: u64, start: usize, len: usize| {
            file.extend([name, kind].map(u32::to_le_bytes).as_flattened());
            let words = [flags, 0, start as u64, len as u64, 0, 8, 0];
            file.extend(words.map(u64::to_le_bytes).as_flattened());
        };
        section(0, 0, 0, 0, 0);
        section(1, 3, 0, names, NAMES.len());
        // SHF_ALLOC | SHF_EXECINSTR
        section(7, 1, 6, 64, code.len() * 8);
        file
    }

    fn call(number: i32) -> [u8; 8] {
        let mut call = [CALL, 0, 0, 0, 0, 0, 0, 0];
        call[4..].copy_from_slice(&number.to_ne_bytes());
        call
    }

    fn code(file: &[u8], len: usize) -> Vec<[u8; 8]> {
        file[64..64 + len * 8].as_chunks().0.to_vec()
    }

    #[test]
    fn placeholders_become_kernel_functions() {
        let file = elf(&[call(12), call(PREEMPT_DISABLE), call(PREEMPT_ENABLE)]);
        let filled = fill_in(&file, |name| match name {
            "bpf_preempt_disable" => Some(65269),
            "bpf_preempt_enable" => Some(65271),
            _ => None,
        });
        let code = code(&filled.unwrap(), 3);
        assert_eq!(code[0], call(12), "a helper");
        for (instruction, id) in code[1..].iter().zip([65269, 65271]) {
            assert_eq!(instruction[..4], [CALL, KFUNC, 0, 0]);
            assert_eq!(instruction[4..], i32::to_ne_bytes(id));
        }
    }

    #[test]
    fn what_the_kernel_has_not_does_nothing() {
        let file = elf(&[call(PREEMPT_DISABLE), call(PREEMPT_ENABLE)]);
        let filled = fill_in(&file, |_| None).unwrap();
        assert_eq!(code(&filled, 2), [[MOV, 0, 0, 0, 0, 0, 0, 0]; 2]);
    }

    #[test]
    fn only_code_is_touched() {
        let mut file = elf(&[call(1)]);
        file.extend(call(PREEMPT_DISABLE));
        let filled = fill_in(&file, |_| Some(7)).unwrap();
        assert!(matches!(filled, Cow::Borrowed(_)), "{filled:?}");
        assert!(fill_in(b"no ELF file", |_| None).is_err());
    }
}
