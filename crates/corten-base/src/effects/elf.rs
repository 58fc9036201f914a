//! What the cache of the dynamic linker needs to know of a library.

use object::Endianness;
use object::elf::{
    DT_NULL, DT_SONAME, DT_STRSZ, DT_STRTAB, EM_AARCH64, EM_X86_64, FileHeader64, PT_DYNAMIC,
    PT_LOAD,
};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

/// A shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    /// The name that it goes by, if it has one.
    pub(super) soname: Option<String>,
    /// The flags in the cache.
    pub(super) flags: u32,
}

/// What kind of library: linked against glibc 2 …
const FLAG_ELF_LIBC6: u32 = 0x0003;
/// … of `x86-64` …
const FLAG_X86_64: u32 = 0x0300;
/// … or of `AArch64`.
const FLAG_AARCH64: u32 = 0x0a00;

/// Reads a library; `None` if it is none for an architecture that we know.
pub(super) fn library(bytes: &[u8]) -> Option<Library> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let flags = match header.e_machine(endian) {
        EM_X86_64 => FLAG_X86_64,
        EM_AARCH64 => FLAG_AARCH64,
        _ => return None,
    };
    let segments = header.program_headers(endian, bytes).ok()?;
    let dynamic = segments.iter().find(|segment| segment.p_type(endian) == PT_DYNAMIC)?;
    let dynamic = dynamic.dynamic(endian, bytes).ok()??;
    let value = |tag| {
        let entries = dynamic.iter().take_while(|entry| entry.d_tag(endian) != DT_NULL as _);
        entries
            .into_iter()
            .find(|entry| entry.d_tag(endian) == tag as _)
            .map(|entry| entry.d_val(endian))
    };
    let (table, size) = (value(DT_STRTAB)?, value(DT_STRSZ)?);
    // The table is given by its address in memory.
    let segment = segments.iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        segment.p_type(endian) == PT_LOAD
            && table >= start
            && table - start < segment.p_filesz(endian)
    })?;
    let offset = (table - segment.p_vaddr(endian)).checked_add(segment.p_offset(endian))?;
    let end = usize::try_from(offset.checked_add(size)?).ok()?;
    let strings = bytes.get(usize::try_from(offset).ok()?..end)?;
    let soname = value(DT_SONAME).and_then(|at| text(strings, at));
    Some(Library { soname, flags: flags | FLAG_ELF_LIBC6 })
}

fn text(strings: &[u8], at: u64) -> Option<String> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::library::library as make;

    #[test]
    fn names_and_machines_are_read() {
        let flags = FLAG_ELF_LIBC6 | FLAG_X86_64;
        let soname = Some("libx.so.1".to_owned());
        assert_eq!(library(&make(Some("libx.so.1"), 62)), Some(Library { soname, flags }));
        let flags = FLAG_ELF_LIBC6 | FLAG_AARCH64;
        assert_eq!(library(&make(None, 183)), Some(Library { soname: None, flags }));
        assert_eq!(library(&make(Some("libx.so.1"), 8)), None);
        assert_eq!(library(b"GROUP ( libx.so.1 )"), None);
    }

    proptest::proptest! {
        #[test]
        fn damaged_libraries_are_read_or_left(at in 0_usize..280, bytes: [u8; 8], length in 0_usize..300) {
            let mut file = make(Some("libx.so.1"), 62);
            for (target, byte) in file.iter_mut().skip(at).zip(bytes) {
                *target = byte;
            }
            file.truncate(length);
            library(&file);
        }
    }
}
