//! Cache mounts from which a step can make hard links.
//!
//! uv links the files of a package from its cache into the environment. No link leads out of a mount, so
//! the cache is not mounted for it: it is one of the lower directories of the step's root. What the step
//! changes in it is taken out of the layer afterwards, which is byte for byte the one that a mount would
//! have left.
//!
//! A linked file has the same owner, mode and content under both names. Whatever else runs in the step
//! and changes one (`chown -R`, `strip`) would change the cache, and so later images. For that reason
//! only steps get this in which nothing but uv does anything to files: uv takes care of its cache.

use std::ffi::OsStr;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::Chars;

use corten_oci::tree::TreePath;
use corten_store::{LinkedCache, Staging};
use corten_sys::beneath::{Dir, FileKind, Resolve, Root};
use corten_sys::clock::Timestamp;

use super::step::tree_path;
use super::tidy;
use crate::copy::{CopyError, Draft};
use crate::diagnose::StepError;
use crate::execute::Execution;
use crate::files::{Files, as_path};
use crate::graph::{CacheSharing, RunMount, RunMountKind, RunOp};

/// Directories in which the runtime mounts something of its own.
const RUNTIME_DIRECTORIES: [&[u8]; 5] = [b"dev", b"proc", b"sys", b"etc", b"run"];

/// Commands that change no file that is there already, but for removing names of it.
const HARMLESS: [&str; 15] = [
    ":", "[", "cd", "echo", "exit", "export", "false", "ls", "mkdir", "printf", "rm", "set",
    "stat", "test", "true",
];

/// Options of uv before its command that have a value.
const UV_OPTIONS: [&str; 6] =
    ["--cache-dir", "--color", "--config-file", "--directory", "--project", "--python-preference"];

/// A cache that a step has as a part of its root.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) cache: LinkedCache,
}

/// Where the caches of a step can be a part of its root, by the index of the mount.
pub(super) fn targets(
    execution: &Execution<'_>,
    op: &RunOp,
) -> Result<Vec<(usize, TreePath)>, StepError> {
    let is_own = execution.options.run.cache_directory.is_none();
    let has_layers = !execution.below.layers.is_empty();
    let is_recorded = execution.session.is_some();
    if !is_own || !has_layers || is_recorded || !may_link(op) || !is_uv_alone(op) {
        return Ok(Vec::new());
    }
    let files = execution.below.files()?;
    let draft = Draft::new(files);
    let all: Vec<TreePath> = op
        .mounts
        .iter()
        .map(|mount| {
            draft.resolve(&TreePath::root(), tree_path(Path::new(&mount.target)).as_bytes())
        })
        .collect::<Result<_, _>>()?;
    let mut targets = Vec::new();
    for (index, (mount, target)) in op.mounts.iter().zip(&all).enumerate() {
        let others = || op.mounts.iter().zip(&all).enumerate().filter(|(other, _)| *other != index);
        let is_apart = others().all(|(_, (mount, other))| {
            !is_mounted(mount) || !(target.is_within(other) || other.is_within(target))
        });
        let is_once = op.mounts.iter().filter(|other| id(other) == id(mount)).count() == 1;
        if is_candidate(mount) && is_once && is_apart && is_free(files, target)? {
            targets.push((index, target.clone()));
        }
    }
    Ok(targets)
}

/// Whether uv is not told to do without links.
fn may_link(op: &RunOp) -> bool {
    let is_other = |(name, mode): &(String, String)| {
        name == "UV_LINK_MODE" && matches!(mode.as_str(), "copy" | "symlink")
    };
    !op.env.iter().any(is_other)
}

/// Whether there is anything at the target of a mount.
fn is_mounted(mount: &RunMount) -> bool {
    !matches!(mount.kind, RunMountKind::Secret { file: false, .. })
}

fn id(mount: &RunMount) -> Option<&str> {
    match &mount.kind {
        RunMountKind::Cache { id, .. } => Some(id),
        _ => None,
    }
}

fn is_candidate(mount: &RunMount) -> bool {
    match &mount.kind {
        RunMountKind::Cache { sharing, readonly, .. } => {
            !readonly && *sharing != CacheSharing::Private
        }
        _ => false,
    }
}

/// Whether a directory can be at a place, and the runtime has nothing there.
fn is_free(files: &dyn Files, target: &TreePath) -> Result<bool, StepError> {
    let first = target.components().next();
    if first.is_none_or(|first| RUNTIME_DIRECTORIES.contains(&first)) {
        return Ok(false);
    }
    let mut path = Some(target.clone());
    while let Some(at) = path.filter(|path| !path.is_root()) {
        if files.find(&at)?.is_some_and(|found| !found.is_directory()) {
            return Ok(false);
        }
        path = at.parent();
    }
    Ok(true)
}

/// Makes a lower directory with the parents of caches as the image has them, so that theirs in the
/// directories of the caches do not count.
pub(super) fn skeleton(execution: &Execution<'_>, linked: &[Linked]) -> Result<Staging, StepError> {
    let staging = execution.tools.store.stage()?;
    let files = execution.below.files()?;
    let root = Root::open(staging.tree()).map_err(CopyError::from)?;
    let mut made = Vec::new();
    for path in linked.iter().flat_map(|linked| parents(&linked.cache.target)) {
        if !made.contains(&path) {
            make_parent(&root, files, &path)?;
            made.push(path);
        }
    }
    // What is made in a directory changes its time.
    for path in made.iter().rev() {
        if let Some(found) = files.find(path)? {
            set_modified(&root, path, found.stat.modified)?;
        }
    }
    Ok(staging)
}

fn make_parent(root: &Root, files: &dyn Files, path: &TreePath) -> Result<(), StepError> {
    let (directory, name) = at(root, path)?;
    directory.create_dir(name, 0o755).map_err(CopyError::from)?;
    let Some(found) = files.find(path)? else {
        // As the runtime makes it for a mount.
        return Ok(directory.set_mode(name, 0o755).map_err(CopyError::from)?);
    };
    directory.set_owner(name, found.stat.uid, found.stat.gid).map_err(CopyError::from)?;
    directory.set_mode(name, found.stat.mode).map_err(CopyError::from)?;
    for (key, value) in found.xattrs()? {
        directory.set_xattr(name, &key, &value).map_err(CopyError::from)?;
    }
    Ok(())
}

/// Takes what a step changed in a cache out of its layer, and leaves there what a mount would have
/// left, for [`tidy::tidy`] to judge.
pub(super) fn take(
    execution: &Execution<'_>,
    linked: &Linked,
    staging: &Staging,
) -> Result<(), StepError> {
    let target = &linked.cache.target;
    let files = execution.below.files()?;
    let root = Root::open(staging.tree()).map_err(CopyError::from)?;
    let parents = parents(target);
    let nearest = parents.last().cloned().unwrap_or_else(TreePath::root);
    let before = modified(&root, &nearest)?;
    execution.tools.store.put_cache_aside(&linked.cache, staging, execution.stage.epoch)?;
    if let Some(before) = before {
        set_modified(&root, &nearest, before)?;
    }
    if files.find(target)?.is_some() {
        // A mount would have touched nothing.
        return release(&root, files, &parents);
    }
    // The runtime would have made what is missing, and so touched the last that is there.
    let mut last = TreePath::root();
    for parent in &parents {
        let is_ours = files.find(parent)?.is_none();
        if !is_ours {
            last = parent.clone();
        }
        match tidy::stat(&root, parent).map_err(CopyError::from)? {
            None => {
                let above = parent.parent().unwrap_or_else(TreePath::root);
                let time = modified(&root, &above)?;
                make_parent(&root, files, parent)?;
                if let Some(found) = files.find(parent)? {
                    set_modified(&root, parent, found.stat.modified)?;
                }
                if let Some(time) = time {
                    set_modified(&root, &above, time)?;
                }
            }
            Some(stat) if stat.kind == FileKind::Directory => {
                if is_ours {
                    let opaque = execution.place(staging.tree(), staging.work()).opaque;
                    let (directory, name) = at(&root, parent)?;
                    directory.remove_xattr(name, opaque).map_err(CopyError::from)?;
                }
            }
            Some(stat) => {
                // The step removed it. Where the image has it, that counts.
                let is_whiteout = stat.kind == FileKind::CharDevice && stat.represents == (0, 0);
                if is_ours && is_whiteout {
                    tidy::remove(&root, parent).map_err(CopyError::from)?;
                }
                return Ok(());
            }
        }
    }
    let (directory, name) = at(&root, target)?;
    directory.create_dir(name, 0o755).map_err(CopyError::from)?;
    let now = directory.stat(name).map_err(CopyError::from)?.modified;
    set_modified(&root, &last, now)
}

/// Removes directories that were only copied for what was in the cache, the innermost first, without
/// a trace in the times of those above.
fn release(root: &Root, files: &dyn Files, parents: &[TreePath]) -> Result<(), StepError> {
    for path in parents.iter().rev() {
        let stat = tidy::stat(root, path).map_err(CopyError::from)?;
        let (Some(stat), Some(found)) = (stat, files.find(path)?) else { break };
        if stat.kind != FileKind::Directory
            || stat.modified != found.stat.modified
            || tidy::is_said(root, path, &stat, &found)?
        {
            break;
        }
        let above = path.parent().unwrap_or_else(TreePath::root);
        let time = modified(root, &above)?;
        tidy::remove(root, path).map_err(CopyError::from)?;
        if let Some(time) = time {
            set_modified(root, &above, time)?;
        }
    }
    Ok(())
}

/// The directories above a path but for the root, the outermost first.
fn parents(path: &TreePath) -> Vec<TreePath> {
    let mut parents = Vec::new();
    let mut next = path.parent();
    while let Some(at) = next.filter(|path| !path.is_root()) {
        next = at.parent();
        parents.push(at);
    }
    parents.reverse();
    parents
}

fn at<'p>(root: &Root, path: &'p TreePath) -> Result<(Dir, &'p OsStr), StepError> {
    Ok(root.parent(as_path(path), Resolve::NoLinks).map_err(CopyError::from)?)
}

/// When a directory of a layer was changed, if it is there.
fn modified(root: &Root, path: &TreePath) -> Result<Option<Timestamp>, StepError> {
    if path.is_root() {
        return Ok(Some(root.dir().stat_self().map_err(CopyError::from)?.modified));
    }
    let stat = tidy::stat(root, path).map_err(CopyError::from)?;
    Ok(stat.filter(|stat| stat.kind == FileKind::Directory).map(|stat| stat.modified))
}

fn set_modified(root: &Root, path: &TreePath, time: Timestamp) -> Result<(), StepError> {
    if path.is_root() {
        let set = corten_sys::beneath::set_times(root, root.dir().path(), time);
        return Ok(set.map_err(CopyError::from)?);
    }
    // It is gone where the step removed it.
    if modified(root, path)?.is_none() {
        return Ok(());
    }
    let (directory, name) = at(root, path)?;
    Ok(directory.set_times(name, time).map_err(CopyError::from)?)
}

/// The targets of caches, for tidying.
pub(super) fn target_path(linked: &Linked) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(linked.cache.target.as_bytes()))
}

/// Whether a step runs uv, and nothing else that changes files that are there.
fn is_uv_alone(op: &RunOp) -> bool {
    if op.script.is_some() {
        return false;
    }
    let commands = match op.args.split_last() {
        Some((text, options)) if is_shell(options) => commands(text),
        Some(_) => Some(vec![op.args.clone()]),
        None => None,
    };
    commands.is_some_and(|commands| {
        commands.iter().any(|command| is_uv(command))
            && commands.iter().all(|command| is_uv(command) || is_harmless(command))
    })
}

/// Whether arguments are a shell that is given its command next.
fn is_shell(arguments: &[String]) -> bool {
    let Some((program, options)) = arguments.split_first() else { return false };
    let name = program.rsplit('/').next().unwrap_or_default();
    let is_option = |option: &String| option.starts_with('-') || option == "pipefail";
    matches!(name, "sh" | "bash" | "dash" | "ash")
        && options.iter().all(is_option)
        && options.last().is_some_and(|option| !option.starts_with("--") && option.ends_with('c'))
}

/// The words of a command without the variables that are set for it.
fn words(command: &[String]) -> &[String] {
    let is_assignment = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let count = command.iter().take_while(|word| is_assignment(word)).count();
    command.get(count..).unwrap_or_default()
}

fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or_default()
}

/// Whether a command is one of uv that installs packages, or only looks.
fn is_uv(command: &[String]) -> bool {
    let Some((first, arguments)) = words(command).split_first() else { return false };
    if program(first) != "uv" {
        return false;
    }
    let mut rest = arguments.iter().map(String::as_str);
    let mut verbs = Vec::new();
    while let Some(word) = rest.next() {
        if UV_OPTIONS.contains(&word) && verbs.is_empty() {
            rest.next();
        } else if !word.starts_with('-') {
            verbs.push(word);
        }
    }
    match verbs.as_slice() {
        ["pip", verb, ..] => {
            matches!(
                *verb,
                "check"
                    | "compile"
                    | "freeze"
                    | "install"
                    | "list"
                    | "show"
                    | "sync"
                    | "tree"
                    | "uninstall"
            )
        }
        ["add" | "export" | "lock" | "remove" | "sync" | "tree" | "venv" | "version", ..]
        | ["tool", "install", ..]
        | ["python", "install" | "pin" | "find" | "list", ..]
        | [] => true,
        _ => false,
    }
}

fn is_harmless(command: &[String]) -> bool {
    let Some((first, arguments)) = words(command).split_first() else { return true };
    match first.as_str() {
        // The file that a virtual environment has for this.
        "." | "source" => {
            matches!(arguments, [script] if script.ends_with("bin/activate"))
        }
        "pip" | "pip3" => installs_uv(arguments),
        "python" | "python3" => match arguments {
            [option, module, arguments @ ..] => {
                option == "-m" && module == "pip" && installs_uv(arguments)
            }
            _ => false,
        },
        name => HARMLESS.contains(&name),
    }
}

/// Whether arguments of pip say to install uv and nothing else.
fn installs_uv(arguments: &[String]) -> bool {
    let mut words = arguments.iter().filter(|word| !word.starts_with('-'));
    let is_uv = |word: &String| {
        word.strip_prefix("uv").is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(['=', '<', '>', '~', '!', '[', ' '])
        })
    };
    words.next().is_some_and(|verb| verb == "install") && words.all(is_uv)
}

/// The simple commands of a shell's text as words; `None` if it has anything that is not simple:
/// files that are written, substitutions, groups, what runs in the background.
fn commands(text: &str) -> Option<Vec<Vec<String>>> {
    let mut reader =
        Reader { chars: text.chars().peekable(), word: None, commands: vec![Vec::new()] };
    while let Some(c) = reader.chars.next() {
        match c {
            '\'' => reader.quoted()?,
            '"' => reader.double_quoted()?,
            '\\' => match reader.chars.next()? {
                '\n' => {}
                c => reader.push(c),
            },
            ' ' | '\t' | '\r' => reader.end_word(),
            '\n' | ';' => reader.end_command(),
            '&' => {
                reader.chars.next_if_eq(&'&')?;
                reader.end_command();
            }
            '|' => {
                reader.chars.next_if_eq(&'|');
                reader.end_command();
            }
            '#' if reader.word.is_none() => while reader.chars.next_if(|c| *c != '\n').is_some() {},
            '$' if reader.chars.peek() == Some(&'(') => return None,
            '>' | '<' | '`' | '(' | ')' => return None,
            c => reader.push(c),
        }
    }
    reader.end_command();
    Some(reader.commands.into_iter().filter(|command| !command.is_empty()).collect())
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    word: Option<String>,
    commands: Vec<Vec<String>>,
}

impl Reader<'_> {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        if let (Some(word), Some(command)) = (self.word.take(), self.commands.last_mut()) {
            command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.commands.push(Vec::new());
    }

    fn quoted(&mut self) -> Option<()> {
        self.word.get_or_insert_default();
        loop {
            match self.chars.next()? {
                '\'' => return Some(()),
                c => self.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Option<()> {
        self.word.get_or_insert_default();
        loop {
            match self.chars.next()? {
                '"' => return Some(()),
                '`' => return None,
                '$' if self.chars.peek() == Some(&'(') => return None,
                '\\' => match self.chars.next()? {
                    '\n' => {}
                    c => self.push(c),
                },
                c => self.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(text: &str) -> bool {
        let commands = commands(text);
        commands.is_some_and(|commands| {
            commands.iter().any(|command| is_uv(command))
                && commands.iter().all(|command| is_uv(command) || is_harmless(command))
        })
    }

    #[test]
    fn a_step_of_uv_alone_is_known() {
        for text in [
            "uv sync --locked --no-install-project --no-dev",
            "uv pip install --system -r requirements.txt",
            "set -ex; cd /app && UV_COMPILE_BYTECODE=1 /bin/uv pip install 'fastapi>=0.1' \"x<2\"",
            "uv --directory /app sync",
            "uv venv /venv\n# the rest\nuv pip install \\\n  torch",
            "pip install --no-cache-dir uv==0.5 && uv pip install --system x && rm -rf /tmp/*",
            "python3 -m pip install -q uv; uv tool install ruff",
            "uv export --no-dev | uv pip install -r -",
            ". /venv/bin/activate && uv pip install x",
            "uv --version",
        ] {
            assert!(alone(text), "{text}");
        }
    }

    #[test]
    fn a_step_that_may_change_linked_files_is_told_apart() {
        for text in [
            "uv sync && chown -R app /app",
            "uv sync && chmod -R a+rX /app",
            "uv sync; find / -name '*.so' | xargs strip",
            "uv pip install x && echo 1 >> /venv/x.py",
            "uv pip install x && sed -i s/a/b/ /venv/x.py",
            "uv pip install $(cat list)",
            "uv pip install \"$(cat list)\"",
            "uv pip install `cat list`",
            "uv run main.py",
            "uv cache clean",
            "uv tool run ruff",
            "uv pip install x & wait",
            "(uv sync)",
            "if true; then uv sync; fi",
            "sh -c 'uv sync; strip x'",
            "env X=1 uv sync",
            "make; uv sync",
            "pip install x && uv sync",
            ". ./other.sh; uv sync",
            "uv sync 'open",
            "uv $COMMAND",
            "uvx ruff",
            "rm -rf /x",
            "",
        ] {
            assert!(!alone(text), "{text}");
        }
    }

    #[test]
    fn a_shell_is_known_by_its_options() {
        let of =
            |args: &[&str]| is_shell(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        assert!(of(&["/bin/sh", "-c"]));
        assert!(of(&["/bin/bash", "-o", "pipefail", "-c"]));
        assert!(of(&["bash", "-euxo", "pipefail", "-c"]));
        assert!(!of(&["uv", "-c"]));
        assert!(!of(&["/bin/sh"]));
        assert!(!of(&["/bin/bash", "--rc"]));
        assert!(!of(&[]));
    }
}
