//! Small root file systems for tests, made of the programs of the machine that runs them.
//!
//! A test that needs a container needs something to run in it, long before an image can be built.
//! The programs are copied with the libraries that they load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corten_sys::command::{Command, find_program};
use corten_sys::file;

/// Where programs are looked for.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// The list of a program's libraries is a few lines.
const LDD_BYTES_MAX: u64 = 64 * 1024;

/// Makes a root file system with these programs in `/usr/bin`, a shell as `/bin/sh`, and the usual
/// directories and accounts.
///
/// # Panics
///
/// When a program is not installed or a file cannot be written: the test cannot go on.
pub fn make(root: &Path, programs: &[&str]) {
    for (directory, mode) in [
        ("etc", 0o755),
        ("usr/bin", 0o755),
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("root", 0o700),
        ("home", 0o755),
        ("tmp", 0o777),
        ("var/tmp", 0o777),
        ("run", 0o755),
    ] {
        let path = root.join(directory);
        file::create_dirs(&path, 0o755).expect("a test can make directories");
        // The file mode mask does not apply to this.
        file::set_mode(&path, mode).expect("a test can set modes");
    }
    for name in ["bin", "sbin"] {
        let link = root.join(name);
        if !file::exists(&link).expect("readable") {
            file::symlink(Path::new("usr/bin"), &link).expect("a test can make links");
        }
    }
    write(root, "etc/passwd", PASSWD);
    write(root, "etc/group", GROUP);
    write(root, "etc/hostname", "image\n");
    add_program(root, Path::new("/bin/sh"), "usr/bin/sh");
    for name in programs {
        let path = find_program(name, SEARCH_PATH.as_ref());
        let path = path.unwrap_or_else(|| panic!("the test needs `{name}` on this machine"));
        add_program(root, &path, &format!("usr/bin/{name}"));
    }
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n\
    app:x:1000:1000::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n";

/// Copies a program under a name, with the libraries that it loads under theirs.
///
/// # Panics
///
/// When a file cannot be read or written.
pub fn add_program(root: &Path, program: &Path, name: &str) {
    copy(program, &root.join(name), 0o755);
    for library in libraries(program) {
        let target = root.join(library.strip_prefix("/").unwrap_or(&library));
        if !target.exists() {
            copy(&library, &target, 0o755);
        }
    }
}

/// Writes a file of the root file system.
///
/// # Panics
///
/// When it cannot be written.
pub fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    if let Some(parent) = path.parent() {
        file::create_dirs(parent, 0o755).expect("a test can make directories");
    }
    file::write(&path, text.as_bytes()).expect("a test can write files");
    file::set_mode(&path, 0o644).expect("a test can set modes");
}

fn copy(from: &Path, to: &Path, mode: u32) {
    let bytes = file::read(from).expect("a program can be read");
    if let Some(parent) = to.parent() {
        file::create_dirs(parent, 0o755).expect("a test can make directories");
    }
    file::write(to, &bytes).expect("a test can write files");
    file::set_mode(to, mode).expect("a test can set modes");
}

/// Asks the loader which libraries a program loads. A static program has none.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let ldd = find_program("ldd", SEARCH_PATH.as_ref()).expect("every glibc system has `ldd`");
    let command = Command::new(ldd).arg(program.as_os_str()).env("PATH", SEARCH_PATH);
    let (_, text) = command.output(LDD_BYTES_MAX).expect("`ldd` can be started");
    let text = String::from_utf8_lossy(&text).into_owned();
    let word =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter(|line| !line.contains("not a dynamic")).filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_file_system_has_a_shell_with_its_libraries() {
        let root = std::env::temp_dir().join(format!("corten-rootfs-{}", std::process::id()));
        make(&root, &["true"]);
        assert!(root.join("bin/sh").is_file());
        assert!(root.join("usr/bin/true").is_file());
        file::remove_tree(&root).expect("removed");
    }
}
