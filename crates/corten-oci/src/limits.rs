//! The maxima for everything that comes from outside, each with its reason.

/// A manifest or an index: the distribution specification asks registries to accept 4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// An image configuration: the same as a manifest, which is where clients put the limit.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// A path in an image: `PATH_MAX` of Linux, without its final NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// One component of a path: `NAME_MAX` of Linux.
pub const NAME_BYTES_MAX: usize = 255;

/// The target of a symbolic link: what Linux accepts.
pub const SYMLINK_BYTES_MAX: usize = 4095;

/// Links followed while a path is resolved: what Linux follows (`MAXSYMLINKS`).
pub const SYMLINK_DEPTH_MAX: u32 = 40;

/// Directories inside each other: a walk holds each of them open, a process has 1024 descriptors, and
/// real images stay below 60.
pub const DIRECTORY_DEPTH_MAX: usize = 256;

/// The content of one PAX or GNU long-name header. One xattr value may have 64 KiB on Linux; the Go
/// tar reader has the same limit of 1 MiB.
pub const TAR_EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// Extension headers before one entry: GNU and PAX together need four.
pub const TAR_EXTENSIONS_PER_ENTRY_MAX: u32 = 16;

/// Data regions of one sparse file, so that a map fits into memory.
pub const TAR_SPARSE_REGIONS_MAX: usize = 65536;

/// Entries in one layer: a full Debian with two CUDA stacks has 400,000.
pub const TAR_ENTRIES_MAX: u64 = 10_000_000;

/// One extended attribute name: `XATTR_NAME_MAX` of Linux.
pub const XATTR_NAME_BYTES_MAX: usize = 255;

/// One extended attribute value: `XATTR_SIZE_MAX` of Linux.
pub const XATTR_VALUE_BYTES_MAX: usize = 65536;

/// The uncompressed size of one layer unless the caller says otherwise; giant model layers exist.
pub const LAYER_BYTES_MAX: u64 = 1 << 40;

/// How much a compressed layer may grow. Deflate reaches 1032 : 1 on zeros at most; real layers stay
/// below 40.
pub const EXPANSION_RATIO_MAX: u64 = 1100;

/// Layers of one image: what overlayfs stacks with room to spare, and four times what builds make.
pub const LAYERS_MAX: usize = 500;

/// A reference as text: 255 for the repository, 128 for the tag, and host and digest.
pub const REFERENCE_BYTES_MAX: usize = 1024;
