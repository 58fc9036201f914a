//! What the cache of the dynamic linker needs to know of a library.

use object::Endianness;
use object::elf::{DT_NEEDED, DT_NULL, DT_SONAME, DT_STRSZ, DT_STRTAB, EM_AARCH64, EM_X86_64, FileHeader64, PT_DYNAMIC, PT_LOAD};
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
/// … of x86-64 …
const FLAG_X86_64: u32 = 0x0300;
/// … or of AArch64.
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
        entries.into_iter().find(|entry| entry.d_tag(endian) == tag as _).map(|entry| entry.d_val(endian))
    };
    let (table, size) = (value(DT_STRTAB)?, value(DT_STRSZ)?);
    // The table is given by its address in memory.
    let segment = segments.iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        segment.p_type(endian) == PT_LOAD && table >= start && table - start < segment.p_filesz(endian)
    })?;
    let offset = table - segment.p_vaddr(endian) + segment.p_offset(endian);
    let end = usize::try_from(offset.checked_add(size)?).ok()?;
    let strings = bytes.get(usize::try_from(offset).ok()?..end)?;
    let soname = value(DT_SONAME).and_then(|at| text(strings, at));
    let needs_libc = value(DT_NEEDED).is_some();
    let _ = needs_libc;
    Some(Library { soname, flags: flags | FLAG_ELF_LIBC6 })
}

fn text(strings: &[u8], at: u64) -> Option<String> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}
