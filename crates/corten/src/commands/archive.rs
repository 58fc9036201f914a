use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::archive::{self, LoadOptions, Named};
use corten_store::{Found, Store};

use super::Context;
use super::images::{find, lookup, platform};
use crate::bases::GOLDEN;
use crate::cli::{LoadArgs, SaveArgs, SaveFormat};
use crate::error::CliError;

/// `corten save IMAGE…`.
pub(super) fn save(context: &Context, arguments: &SaveArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let mut images = Vec::new();
    let platform = platform(arguments.platform.as_deref())?;
    for name in &arguments.images {
        images.push(named(&store, name, platform.as_ref())?);
    }
    let kind = (arguments.format, platform.unwrap_or_else(Platform::host));
    if let Some(path) = &arguments.output {
        let mut file = Partial::create(path)?;
        write(&store, &images, &kind, &mut file.file)?;
        file.keep()?;
        context.ui.status(&format!("wrote {}", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        return Err(CliError::new("an archive is not for a terminal")
            .hint("write it to a file: `corten save -o FILE …`, or into a pipe".to_owned()));
    }
    write(&store, &images, &kind, &mut stdout)?;
    stdout.flush().map_err(CliError::new)?;
    Ok(ExitCode::SUCCESS)
}

fn write(
    store: &Store,
    images: &[Named],
    (format, platform): &(SaveFormat, Platform),
    sink: &mut dyn Write,
) -> Result<(), CliError> {
    match format {
        SaveFormat::OciArchive => archive::save_oci(store, images, sink)?,
        SaveFormat::DockerArchive => archive::save_docker(store, images, platform, sink)?,
    }
    Ok(())
}

/// The image or index together with the name that it was asked for by; an ID has no name.
fn named(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Named, CliError> {
    let content = match platform {
        None => lookup(store, name)?,
        Some(_) => Found::Image(Box::new(find(store, name, platform)?)),
    };
    let reference: Option<Reference> = name.parse().ok();
    let known = store.references()?;
    let reference =
        reference.filter(|reference| known.iter().any(|tagged| tagged.reference == *reference));
    Ok(Named { content, references: reference.into_iter().collect() })
}

/// A file that keeps its name only when it is complete.
pub(super) struct Partial {
    pub(super) file: std::fs::File,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Partial {
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = corten_sys::file::create_new(&temporary, 0o644).map_err(|error| {
            let named = corten_sys::error::IoError::new("create", path, error.source);
            CliError::from(named).hint("write it to a directory that is there".to_owned())
        })?;
        Ok(Self { file, temporary, path: path.to_owned(), kept: false })
    }

    pub(super) fn keep(mut self) -> Result<(), CliError> {
        corten_sys::file::sync(&self.file, &self.path)?;
        corten_sys::file::rename(&self.temporary, &self.path)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // The failure that brought us here is what is reported; the leftover's name says
            // what it is.
            drop(corten_sys::file::remove_file(&self.temporary));
        }
    }
}

/// `corten load`.
pub(super) fn load(context: &Context, arguments: &LoadArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let options = match platform(arguments.platform.as_deref())? {
        Some(platform) => LoadOptions::new(platform),
        None => LoadOptions::all(),
    };
    let known = store.references()?;
    let loaded = match &arguments.input {
        Some(path) if path.is_dir() => archive::load_directory(&store, path, &options)?,
        Some(path) => archive::load(&store, &mut corten_sys::file::open(path)?, &options)?,
        None => {
            let mut stdin = std::io::stdin().lock();
            if stdin.is_terminal() {
                return Err(CliError::new("there is no archive on standard input")
                    .hint("name the file: `corten load -i FILE`".to_owned()));
            }
            archive::load(&store, &mut stdin, &options)?
        }
    };
    // What came from elsewhere cannot be made again here: it is on the disk before that is told.
    store.settle()?;
    for named in &loaded {
        for reference in &named.references {
            let moved = known.iter().any(|tagged| {
                tagged.reference == *reference && tagged.target != named.content.target()
            });
            if moved && reference.registry() == GOLDEN {
                context.ui.warning(&format!(
                    "`{}` is now what the archive has, no longer what was made here",
                    reference.familiar()
                ));
            }
            context.ui.line(&format!("Loaded image: {}", reference.familiar()));
        }
        if named.references.is_empty() {
            context.ui.line(&format!("Loaded image ID: {}", named.content.target()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
