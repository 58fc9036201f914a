//! How registries are spoken to: with the host's certificates, proxies and logins.

use std::path::PathBuf;

use corten_http::HttpOptions;
use corten_registry::{Client, ClientOptions, CredentialFiles};

use crate::bases::http_options;
use crate::settings::{Environment, SEARCH_PATH, Settings};

/// Hosts that no proxy can reach for us.
const OWN_HOSTS: &str = "localhost,127.0.0.1,::1";

/// Prepares a client; nothing is read or connected before it is used.
pub(crate) fn client(settings: &Settings) -> Client {
    let environment = &settings.environment;
    let http = http_options(settings);
    let no_proxy = match &http.no_proxy {
        Some(hosts) => format!("{hosts},{OWN_HOSTS}"),
        None => OWN_HOSTS.to_owned(),
    };
    let registries = settings.config.registries.iter();
    let insecure = registries.filter(|(_, table)| table.insecure).map(|(name, _)| name.clone());
    Client::new(ClientOptions {
        http: HttpOptions { no_proxy: Some(no_proxy), ..http },
        credentials: CredentialFiles {
            files: credential_files(environment),
            search_path: environment
                .path("PATH")
                .map_or_else(|| SEARCH_PATH.into(), PathBuf::into_os_string),
            environment: environment.all(),
        },
        insecure: insecure.collect(),
    })
}

/// The files that Podman and Docker write. One that is named is the only one, as with them.
fn credential_files(environment: &Environment) -> Vec<PathBuf> {
    if let Some(file) = environment.path("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    if let Some(folder) = environment.path("DOCKER_CONFIG") {
        return vec![folder.join("config.json")];
    }
    let home = environment.home();
    let configuration = environment.path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let runtime = environment.path("XDG_RUNTIME_DIR");
    let runtime = runtime.map(|folder| folder.join("containers/auth.json"));
    let docker = home.join(".docker/config.json");
    std::iter::once(docker)
        .chain(runtime)
        .chain([configuration.join("containers/auth.json")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_of_logins_is_the_only_one() {
        let files = |pairs: &[(&str, &str)]| {
            let files = credential_files(&Environment::from_pairs(pairs));
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(files(&[("REGISTRY_AUTH_FILE", "/a"), ("DOCKER_CONFIG", "/d")]), "/a");
        assert_eq!(files(&[("DOCKER_CONFIG", "/d")]), "/d/config.json");
        assert_eq!(
            files(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            "/h/.docker/config.json /r/containers/auth.json /h/.config/containers/auth.json"
        );
    }
}
