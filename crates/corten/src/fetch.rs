//! How builds reach what lies elsewhere: HTTP by our own client, repositories by the host's `git`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use corten_base::{HttpOptions, HttpTransport};
use corten_build::record::{
    HttpUpstream, Upstream, UpstreamError, UpstreamOptions, UpstreamRequest, UpstreamResponse,
};
use corten_build::remote::{
    FetchError, FetchRequest, FetchResponse, Fetcher, GitOptions, Remotes, Source,
    without_credentials,
};

use crate::bases::http_options;
use crate::error::CliError;
use crate::settings::Settings;

/// Where `git` is looked for when the environment has no `PATH`.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Speaks HTTP. The certificates are read when something is fetched first.
struct Http {
    options: HttpOptions,
    transport: OnceLock<HttpTransport>,
}

impl Http {
    fn transport(&self) -> Result<&HttpTransport, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport);
        }
        let transport = HttpTransport::new(&self.options)?;
        Ok(self.transport.get_or_init(|| transport))
    }
}

impl Fetcher for Http {
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchResponse, FetchError> {
        let url = without_credentials(request.url);
        let failed = |hint: Option<&str>, source| FetchError {
            url: url.clone(),
            hint: hint.map(str::to_owned),
            source,
        };
        let transport = self.transport().map_err(|source| failed(None, source))?;
        // What is stored must be what was sent, so no encoding is asked for.
        let mut headers = vec![("Accept-Encoding", "identity")];
        headers.extend(request.authorization.map(|value| ("Authorization", value)));
        headers.extend(request.etag.map(|etag| ("If-None-Match", etag)));
        headers.extend(request.last_modified.map(|date| ("If-Modified-Since", date)));
        let answer = transport.ask(request.url, &headers).map_err(|error| {
            // The address is in our own message already.
            let source = match error {
                corten_base::TransportError::Failed { source, .. } => source,
                other => Box::new(other),
            };
            let hint =
                "look at the address, the network, and the variables `HTTPS_PROXY` and `NO_PROXY`";
            failed(Some(hint), source)
        })?;
        let header = |name: &str| answer.header(name).map(str::to_owned);
        Ok(FetchResponse {
            status: answer.status,
            location: header("location"),
            etag: header("etag"),
            last_modified: header("last-modified"),
            content_disposition: header("content-disposition"),
            content_length: answer.header("content-length").and_then(|text| text.parse().ok()),
            body: answer.reader,
        })
    }
}

/// Asks servers for steps whose requests are recorded. The certificates are read when something is
/// asked for first.
struct RecordedHttp {
    options: UpstreamOptions,
    upstream: OnceLock<HttpUpstream>,
}

impl Upstream for RecordedHttp {
    fn send(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamResponse, UpstreamError> {
        let upstream = if let Some(upstream) = self.upstream.get() {
            upstream
        } else {
            let made = HttpUpstream::new(&self.options);
            let made = made.map_err(|error| UpstreamError { message: error.to_string() })?;
            self.upstream.get_or_init(|| made)
        };
        upstream.send(request)
    }
}

/// The same settings as for everything else that is fetched.
fn upstream_options(settings: &Settings) -> UpstreamOptions {
    let HttpOptions { ca_bundle, http_proxy, https_proxy, no_proxy } = http_options(settings);
    UpstreamOptions { ca_bundle, http_proxy, https_proxy, no_proxy, refuses_loopback: false }
}

/// What a build may use to fetch.
pub(crate) fn remotes(settings: &Settings) -> Remotes {
    let http = Http { options: http_options(settings), transport: OnceLock::new() };
    let environment = &settings.environment;
    let path = environment.get("PATH").unwrap_or(SEARCH_PATH);
    let mut variables = environment.proxies();
    variables.push(("PATH".to_owned(), path.to_owned()));
    if let Some(agent) = environment.get("SSH_AUTH_SOCK") {
        variables.push(("SSH_AUTH_SOCK".to_owned(), agent.to_owned()));
    }
    if let Some(bundle) = environment.ca_bundle() {
        variables.push(("GIT_SSL_CAINFO".to_owned(), bundle.display().to_string()));
    }
    let git = GitOptions {
        program: corten_sys::command::find_program("git", path.as_ref()),
        environment: variables,
    };
    let options = UpstreamOptions { refuses_loopback: true, ..upstream_options(settings) };
    let downloads = RecordedHttp { options, upstream: OnceLock::new() };
    let upstream = RecordedHttp { options: upstream_options(settings), upstream: OnceLock::new() };
    Remotes {
        fetcher: Some(Arc::new(http)),
        git,
        upstream: Some(Arc::new(upstream)),
        downloads: Some(Arc::new(downloads)),
        secrets: BTreeMap::new(),
    }
}

/// Reads a context that may lie elsewhere; `None` for a path.
pub(crate) fn source(text: &str) -> Result<Option<Source>, CliError> {
    let shown = || without_credentials(text);
    // A directory that is there is meant, whatever its name looks like.
    if corten_sys::file::exists(Path::new(text)).unwrap_or(false) {
        return Ok(None);
    }
    let text = if text.starts_with("github.com/") {
        with_git_suffix(&format!("https://{text}"))
    } else {
        text.to_owned()
    };
    let parsed = Source::parse(&text);
    parsed.map_err(|error| CliError::new(format!("failed to use `{}`: {error}", shown())))
}

/// Docker takes `github.com/owner/name` for a repository.
fn with_git_suffix(text: &str) -> String {
    let end = text.find(['#', '?']).unwrap_or(text.len());
    let (base, rest) = text.split_at(end);
    if base.strip_suffix(".git").is_some() { text.to_owned() } else { format!("{base}.git{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_may_be_named_as_docker_does() {
        let of = |text: &str| source(text).ok().flatten().map(|s| s.address().to_string());
        assert_eq!(of("github.com/a/b#v1:x").as_deref(), Some("https://github.com/a/b.git"));
        assert_eq!(of("github.com/a/b.git").as_deref(), Some("https://github.com/a/b.git"));
        assert_eq!(of("some/dir"), None);
    }
}
