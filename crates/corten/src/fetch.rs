//! How builds reach what lies elsewhere: HTTP by our own client, repositories by the host's `git`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use corten_base::HttpTransport;
use corten_build::record::{
    HttpUpstream, Reach, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
};
use corten_build::remote::{
    FetchError, FetchRequest, FetchResponse, Fetcher, GitOptions, Remotes, Source,
    without_credentials,
};
use corten_http::OnFirstUse;

use crate::bases::http_options;
use crate::error::CliError;
use crate::settings::{SEARCH_PATH, Settings};

/// Speaks HTTP for builds.
struct Http(OnFirstUse<HttpTransport>);

impl Fetcher for Http {
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchResponse, FetchError> {
        let url = without_credentials(request.url);
        let failed = |hint, source| FetchError { url: url.clone(), hint, source };
        let transport = self.0.get(HttpTransport::new);
        let transport = transport.map_err(|error| failed(error.hint(), Box::new(error)))?;
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
            failed(Some(hint.to_owned()), source)
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

/// Asks servers for steps whose requests are recorded or kept.
struct StepHttp {
    upstream: OnFirstUse<HttpUpstream>,
    reach: Reach,
}

impl Upstream for StepHttp {
    fn send(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamResponse, UpstreamError> {
        let upstream = self.upstream.get(|options| HttpUpstream::new(options, self.reach));
        let upstream = upstream.map_err(|error| UpstreamError { message: error.line() })?;
        upstream.send(request)
    }
}

/// What a build may use to fetch.
pub(crate) fn remotes(settings: &Settings) -> Remotes {
    let http = Http(OnFirstUse::new(http_options(settings)));
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
    let step_http =
        |reach| Arc::new(StepHttp { upstream: OnFirstUse::new(http_options(settings)), reach });
    Remotes {
        fetcher: Some(Arc::new(http)),
        git,
        upstream: Some(step_http(Reach::Anywhere)),
        downloads: Some(step_http(Reach::Outward)),
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
