//! From mirrors to verified indexes of packages.

use corten_diag::{Event, Reporter};
use corten_oci::digest::Digest;
use corten_oci::time::rfc3339;
use corten_store::StoreError;

use crate::build::BaseOptions;
use crate::deb;
use crate::error::BaseError;
use crate::fetch::{FetchError, Fetcher, Wanted};
use crate::lock::{self, Archive};
use crate::recipe::Recipe;
use crate::release::Release;
use crate::sources::without_credentials;

/// The largest `InRelease`: that of the main archive has 150 KiB.
const IN_RELEASE_BYTES_MAX: u64 = 8 << 20;

/// The largest index: that of unstable has 60 MiB.
const INDEX_BYTES_MAX: u64 = 512 << 20;

/// The cache of the newest `InRelease` per mirror and suite.
const CACHE: &str = "base-in-release";

/// One suite whose index is in the store.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) archive: Archive,
    pub(crate) evidence: lock::Suite,
}

/// Fetches and verifies the signed contents of all suites of a recipe, and their indexes.
pub(crate) fn load(
    recipe: &Recipe,
    options: &BaseOptions<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<Vec<Indexed>, BaseError> {
    let base = &recipe.base;
    let main = [&base.suite].into_iter().chain(&base.updates).map(|suite| (Archive::Main, suite));
    let security = base.security.iter().map(|suite| (Archive::Security, suite));
    let suites: Vec<(Archive, &String)> = main.chain(security).collect();
    // Small files of several servers: waiting dominates, so all suites at once.
    let results: Vec<Result<Indexed, BaseError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = suites
            .iter()
            .map(|(archive, suite)| {
                scope.spawn(move || load_suite(recipe, *archive, suite, options, fetcher))
            })
            .collect();
        let joined = handles.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    results.into_iter().collect()
}

fn load_suite(
    recipe: &Recipe,
    archive: Archive,
    suite: &str,
    options: &BaseOptions<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<Indexed, BaseError> {
    let mirrors = match archive {
        Archive::Main => &options.mirrors.archive,
        Archive::Security => &options.mirrors.security,
    };
    let mut failure = None;
    for uri in mirrors {
        match from_mirror(recipe, uri, suite, options, fetcher) {
            Ok(evidence) => return Ok(Indexed { archive, evidence }),
            // That a mirror cannot be trusted says more than that another does not answer.
            Err(_) if matches!(failure, Some(BaseError::Release { .. })) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| match archive {
        Archive::Main => BaseError::NoMirror,
        Archive::Security => BaseError::NoSecurityMirror { suite: suite.to_owned() },
    }))
}

fn from_mirror(
    recipe: &Recipe,
    uri: &str,
    suite: &str,
    options: &BaseOptions<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<lock::Suite, BaseError> {
    let (release, expired_was_allowed) = read_release(uri, suite, options, fetcher)?;
    let (path, entry) = ["Packages.xz", "Packages.gz", "Packages"]
        .iter()
        .find_map(|name| {
            let path = format!("{}/binary-{}/{name}", recipe.base.component, options.architecture);
            let entry = *release.files.get(&path)?;
            Some((path, entry))
        })
        .ok_or_else(|| BaseError::NoIndex {
            suite: suite.to_owned(),
            component: recipe.base.component.clone(),
            architecture: options.architecture.clone(),
        })?;
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let by_hash = format!("{uri}/dists/{suite}/{folder}/by-hash/SHA256/{}", entry.sha256.hex());
    let plain = format!("{uri}/dists/{suite}/{path}");
    let urls = if release.by_hash { vec![by_hash, plain] } else { vec![plain] };
    let name = format!("the package index of `{suite}`");
    fetcher.ensure(
        &format!("index of {suite}"),
        &[Wanted { name, urls, sha256: entry.sha256, size_bytes: entry.size_bytes }],
    )?;
    Ok(lock::Suite {
        suite: suite.to_owned(),
        uri: without_credentials(uri),
        in_release: release.sha256,
        signers: release.signers,
        date: rfc3339(release.date),
        valid_until: release.valid_until.map(rfc3339),
        expired_was_allowed,
        index: path,
        index_digest: entry.sha256,
    })
}

/// Returns the newest release that is known, and whether it was used although it had expired.
fn read_release(
    uri: &str,
    suite: &str,
    options: &BaseOptions<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<(Release, bool), BaseError> {
    let url = format!("{uri}/dists/{suite}/InRelease");
    let shown = without_credentials(&url);
    let invalid = |source| BaseError::Release { url: shown.clone(), source };
    let key = format!("{uri} {suite}");
    let now = options.clock.now();
    let verify = |bytes: &[u8]| {
        let release = Release::verify(bytes, &options.keyring, now)?;
        release.check_suite(suite)?;
        Ok(release)
    };
    let name = format!("the signed index of `{suite}`");
    let known = fetcher.store.aux(CACHE, &key).map_err(store)?;
    let fetched = if options.offline {
        let missing = || FetchError::Offline { name };
        known.clone().ok_or_else(missing)?
    } else {
        fetcher.read(&name, &url, IN_RELEASE_BYTES_MAX)?
    };
    let mut release = verify(&fetched).map_err(invalid)?;
    if known.as_ref() != Some(&fetched) {
        match known.as_deref().map(&verify) {
            // A mirror that lags behind, or somebody who wants us to miss updates.
            Some(Ok(newer)) if newer.date > release.date => {
                let date = rfc3339(release.date);
                warn(
                    fetcher.reporter,
                    format!(
                        "`{shown}` is older ({date}) than what was seen before; the newer one is used"
                    ),
                );
                release = newer;
            }
            _ => fetcher.store.put_aux(CACHE, &key, &fetched).map_err(store)?,
        }
    }
    match release.check_dates(now) {
        Ok(()) => Ok((release, false)),
        Err(error) if options.allow_expired => {
            warn(fetcher.reporter, format!("`{shown}` is used although {error}"));
            Ok((release, true))
        }
        Err(error) => Err(invalid(error)),
    }
}

fn store(source: StoreError) -> BaseError {
    BaseError::Store { what: "the signed index", source: Box::new(source) }
}

fn warn(reporter: &dyn Reporter, text: String) {
    reporter.report(Event::Warning(text));
}

/// Returns the text of an index that is in the store.
pub(crate) fn read_index(
    fetcher: &Fetcher<'_>,
    path: &str,
    digest: &Digest,
) -> Result<String, BaseError> {
    let what = "the package index";
    let bytes = fetcher.store.read_blob(digest, INDEX_BYTES_MAX);
    let bytes = bytes.map_err(|source| BaseError::Store { what, source: Box::new(source) })?;
    let bytes = bytes.ok_or_else(|| FetchError::Offline { name: format!("`{path}`") })?;
    let damaged = |source| BaseError::Index { path: path.to_owned(), source };
    let text = deb::unpack_index(path, &bytes, INDEX_BYTES_MAX).map_err(damaged)?;
    String::from_utf8(text).map_err(|error| damaged(std::io::Error::other(error)))
}
