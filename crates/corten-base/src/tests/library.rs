//! Shared libraries made from nothing.

/// The smallest library that ldconfig accepts: two segments, and a dynamic section with the names.
pub(crate) fn library(soname: Option<&str>, machine: u16) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    const ENTRIES: usize = 5 * 16;
    let strings =
        [b"\0libc.so.6\0".as_slice(), soname.unwrap_or_default().as_bytes(), b"\0"].concat();
    let size = (HEADERS + ENTRIES + strings.len()) as u64;
    let (dynamic, table) = (HEADERS as u64, (HEADERS + ENTRIES) as u64);
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    // A shared object; no sections.
    out.extend([3_u16, machine].map(u16::to_le_bytes).concat());
    out.extend(1_u32.to_le_bytes());
    out.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    out.extend(0_u32.to_le_bytes());
    out.extend([64_u16, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    for (kind, flags, offset, length) in [(1_u32, 5_u32, 0, size), (2, 4, dynamic, 5 * 16)] {
        out.extend([kind, flags].map(u32::to_le_bytes).concat());
        out.extend([offset, offset, offset, length, length, 8].map(u64::to_le_bytes).concat());
    }
    // DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME (or again DT_NEEDED), DT_NULL.
    let (tag, at) = if soname.is_some() { (14, 11) } else { (1, 1) };
    for pair in [[1, 1], [5, table], [10, strings.len() as u64], [tag, at], [0, 0]] {
        out.extend(pair.map(u64::to_le_bytes).concat());
    }
    out.extend(strings);
    out
}
