use corten_oci::digest::Digest;
use corten_sys::file;
use corten_sys::lock::FileLock;

use super::Scratch;
use crate::CacheMounts;

#[test]
fn cache_directories_are_counted_and_removed_unless_a_build_uses_them() {
    let scratch = Scratch::new();
    let store = scratch.store();
    assert_eq!(store.cache_mounts().unwrap(), CacheMounts::default());
    let folder = store.cache_mounts_dir();
    let name = |id: &str| Digest::of(id.as_bytes()).hex();
    for (directory, bytes) in [(name("pip"), 10), (format!("{}-1", name("apt")), 5)] {
        file::create_dirs(&folder.join(&directory).join("deep"), 0o755).unwrap();
        file::write(&folder.join(&directory).join("deep/file"), &vec![0; bytes]).unwrap();
    }
    file::create_dirs(&folder.join("somebody-elses"), 0o755).unwrap();
    let outside = scratch.store().root().join("FORMAT");
    file::symlink(&outside, &folder.join(name("pip")).join("link")).unwrap();
    let all = CacheMounts { count: 2, bytes: 15, in_use: 0 };
    assert_eq!(store.cache_mounts().unwrap(), all);

    let lock = FileLock::shared(&folder.join(format!("{}.lock", name("pip")))).unwrap();
    let removed = store.remove_cache_mounts().unwrap();
    assert_eq!(removed, CacheMounts { count: 1, bytes: 5, in_use: 1 });
    drop(lock);
    let removed = store.remove_cache_mounts().unwrap();
    assert_eq!(removed, CacheMounts { count: 1, bytes: 10, in_use: 0 });
    assert!(file::exists(&folder.join("somebody-elses")).unwrap());
    assert!(file::exists(&outside).unwrap());
}
