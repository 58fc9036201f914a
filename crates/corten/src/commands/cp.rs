//! `corten cp`: files between a container and the host.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use corten_runtime::files::{self, Copied, CopyOptions, HostPath};
use corten_store::archive::decompress;

use super::Context;
use super::container_files::reach;
use super::life::existing;
use crate::cli::CpArgs;
use crate::error::CliError;

/// One side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    Container {
        name: &'a str,
        path: &'a str,
    },
    Host(&'a str),
    /// A tar on standard input or output.
    Stream,
}

impl<'a> Place<'a> {
    /// Docker's rule: what begins with `/` or `.` is a path of the host, else `NAME:` is a container.
    fn parse(text: &'a str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with('/') && !name.starts_with('.') => {
                Self::Container { name, path }
            }
            _ => Self::Host(text),
        }
    }
}

/// The container that a copy is about, if the words are right.
pub(super) fn container_of(arguments: &CpArgs) -> Option<&str> {
    [&arguments.source, &arguments.destination].into_iter().find_map(|text| {
        match Place::parse(text) {
            Place::Container { name, .. } => Some(name),
            _ => None,
        }
    })
}

/// `corten cp SOURCE DESTINATION`.
pub(super) fn cp(context: &Context, arguments: &CpArgs) -> Result<ExitCode, CliError> {
    let options = CopyOptions { follow: arguments.follow_link, archive: arguments.archive };
    let (source, destination) =
        (Place::parse(&arguments.source), Place::parse(&arguments.destination));
    match (source, destination) {
        (Place::Container { name, path }, Place::Stream) => {
            stream_out(context, name, path, options)
        }
        (Place::Container { name, path }, Place::Host(to)) => {
            let copied = with_container(context, name, |pid, cwd| {
                let to = HostPath { path: Path::new(to), from: cwd };
                Ok(files::copy_out(pid, path.as_bytes(), to, options)?)
            })?;
            Ok(tell(context, arguments, &copied))
        }
        (Place::Host(from), Place::Container { name, path }) => {
            let copied = with_container(context, name, |pid, cwd| {
                let from = HostPath { path: Path::new(from), from: cwd };
                Ok(files::copy_in(pid, from, path.as_bytes(), options)?)
            })?;
            Ok(tell(context, arguments, &copied))
        }
        (Place::Stream, Place::Container { name, path }) => {
            let copied = stream_in(context, name, path)?;
            Ok(tell(context, arguments, &copied))
        }
        (Place::Container { .. }, Place::Container { .. }) => {
            Err(CliError::new("files cannot be copied from one container to another at once")
                .hint("`corten cp ONE:PATH - | corten cp - OTHER:DIRECTORY`".to_owned()))
        }
        _ => Err(CliError::new("neither the source nor the destination is of a container").hint(
            "write `corten cp CONTAINER:PATH DESTINATION` or the other way round".to_owned(),
        )),
    }
}

fn with_container<T>(
    context: &Context,
    name: &str,
    mut work: impl FnMut(u32, &Path) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let store = context.store()?;
    let container = existing(&store, name)?;
    let cwd = std::env::current_dir()
        .map_err(|source| corten_sys::error::IoError::new("find", ".", source))?;
    reach(&store, &container, |pid| work(pid, &cwd))
}

fn stream_out(
    context: &Context,
    name: &str,
    path: &str,
    options: CopyOptions,
) -> Result<ExitCode, CliError> {
    if context.ui.data_is_terminal() {
        return Err(CliError::new("a tar is not for a terminal")
            .hint("write it to a file or into a pipe".to_owned()));
    }
    let mut stdout = context.ui.data_stream();
    with_container(context, name, |pid, _| {
        Ok(files::archive(pid, path.as_bytes(), options, &mut stdout)?)
    })?;
    stdout.flush().map_err(CliError::new)?;
    Ok(ExitCode::SUCCESS)
}

fn stream_in(context: &Context, name: &str, path: &str) -> Result<Copied, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CliError::new("there is no tar on standard input")
            .hint("`tar -c FILE… | corten cp - CONTAINER:DIRECTORY`".to_owned()));
    }
    let mut tar = decompress(stdin.lock()).map_err(CliError::new)?;
    with_container(context, name, |pid, _| Ok(files::unpack(pid, &mut tar, path.as_bytes())?))
}

/// Says what was copied, and what not.
fn tell(context: &Context, arguments: &CpArgs, copied: &Copied) -> ExitCode {
    if copied.skipped_devices > 0 {
        let count = copied.skipped_devices;
        context.ui.warning(&format!(
            "{count} device nodes were left out: they can be made by root of the machine only"
        ));
    }
    if copied.squashed_owners > 0 {
        let count = copied.squashed_owners;
        context
            .ui
            .warning(&format!("{count} files have owners that are not known there: root has them"));
    }
    if !arguments.quiet {
        let things = if copied.entries == 1 { "file" } else { "files" };
        let to = &arguments.destination;
        context.ui.done("copied", &format!("{} {things} to {to}", copied.entries));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        let container = |name, path| Place::Container { name, path };
        assert_eq!(Place::parse("api:/etc/x"), container("api", "/etc/x"));
        assert_eq!(Place::parse("api:"), container("api", ""));
        assert_eq!(Place::parse("api:a:b"), container("api", "a:b"));
        assert_eq!(Place::parse("./api:x"), Place::Host("./api:x"));
        assert_eq!(Place::parse("/a:b"), Place::Host("/a:b"));
        assert_eq!(Place::parse("plain"), Place::Host("plain"));
        assert_eq!(Place::parse("-"), Place::Stream);
    }
}
