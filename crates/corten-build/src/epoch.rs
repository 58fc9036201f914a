//! `SOURCE_DATE_EPOCH` as the time of something that is fetched: it is asked before the build is
//! planned, and is a number from then on.

use std::path::Path;
use std::sync::Arc;

use corten_diag::{Reporter, SourceFile};
use corten_store::Store;
use corten_sys::beneath::{Dir, FileKind};
use corten_sys::error::IoError;

use crate::error::{BuildError, Diagnosed};
use crate::options::{BuildOptions, Context};
use crate::plan::epoch::{NAME, Whose, whose};
use crate::recording::Recording;
use crate::remote::{Fetching, source_time};

/// Replaces a `SOURCE_DATE_EPOCH` that is `context`, or the name of a stage or of a further context,
/// by that thing's time in seconds since 1970: for a repository when the commit was made, for a file
/// over HTTP when it was last changed, or for an archive whose server does not say, the time of its
/// newest file. What has no time, such as a directory of this machine, gives no epoch.
pub fn settle_epoch(
    options: &mut BuildOptions,
    store: &Store,
    reporter: &dyn Reporter,
) -> Result<(), BuildError> {
    let is_named = options.build_args.contains_key(NAME) || options.dockerfile.text.contains(NAME);
    if !is_named || options.epoch.is_some() {
        return Ok(());
    }
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    let diagnosed = |diagnostic: Box<_>| {
        let source = SourceFile::new(&options.dockerfile.name, &options.dockerfile.text);
        BuildError::from(Diagnosed::new(vec![*diagnostic], Arc::new(source)))
    };
    let Some(whose) = whose(&dockerfile, options).map_err(diagnosed)? else {
        return Ok(());
    };
    let seconds = match whose {
        Whose::Nobody => None,
        Whose::Context => match &options.context {
            Context::Fetched { time, .. } => *time,
            Context::Empty | Context::Directory(_) => None,
        },
        Whose::Source(source, span) => {
            let fetching = Fetching {
                remotes: &options.remotes,
                store,
                reporter,
                lock: options.recording.lock(),
                is_offline: matches!(options.recording, Recording::Offline(_)),
            };
            source_time(&fetching, &source, span).map_err(diagnosed)?
        }
    };
    let value = seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
    options.build_args.insert(NAME.to_owned(), value);
    Ok(())
}

/// The time of the newest regular file below a directory, in seconds since 1970.
pub(crate) fn newest(directory: &Path) -> Result<Option<i64>, IoError> {
    newest_in(&Dir::open(directory)?)
}

fn newest_in(directory: &Dir) -> Result<Option<i64>, IoError> {
    let mut newest = None;
    for entry in directory.list()? {
        let stat = directory.stat(&entry.name)?;
        newest = newest.max(match stat.kind {
            FileKind::File => Some(stat.modified.seconds),
            FileKind::Directory => newest_in(&directory.open_dir(&entry.name)?)?,
            _ => None,
        });
    }
    Ok(newest)
}
