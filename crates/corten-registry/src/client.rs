//! Registries, and who we are to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use corten_http::{HttpOptions, OnFirstUse, basic_authorization};
use corten_oci::reference::Reference;
use ureq::Body;
use ureq::http::Response;

use crate::challenge::Challenge;
use crate::credentials::{CredentialFiles, Credentials};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::http::{Call, Http, Payload, header, host_of, is_same_origin, shown};
use crate::repository::Repository;

/// The largest answer of a token server.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// The longest token that is sent: servers refuse headers of this size anyway.
const TOKEN_LENGTH_MAX: usize = 64 * 1024;

/// What a client works with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    pub http: HttpOptions,
    pub credentials: CredentialFiles,
    /// Registries whose identity need not be proven, as references name them.
    pub insecure: BTreeSet<String>,
}

/// Speaks to registries; cheap to clone, and clones share what they know.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: OnFirstUse<Http>,
    credentials: CredentialFiles,
    insecure: BTreeSet<String>,
    hosts: Mutex<BTreeMap<Endpoint, Arc<Host>>>,
}

/// One registry.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    /// The address that it answers at, once that is known.
    base: OnceLock<String>,
    /// What requests with a scope carry.
    authorizations: Mutex<BTreeMap<String, String>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Host").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; nothing is read or connected yet.
    pub fn new(options: ClientOptions) -> Self {
        let ClientOptions { http, credentials, insecure } = options;
        let (http, hosts) = (OnFirstUse::new(http), Mutex::new(BTreeMap::new()));
        Self { inner: Arc::new(Inner { http, credentials, insecure, hosts }) }
    }

    /// Names a repository. `insecure` adds to what the options say about its registry.
    pub fn repository(&self, reference: &Reference, insecure: bool) -> Repository {
        let registry = reference.registry();
        let insecure = insecure || self.inner.insecure.contains(registry);
        let endpoint = Endpoint::new(registry, insecure);
        let mut hosts = self.inner.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(endpoint.clone()).or_insert_with(|| {
            let authorizations = Mutex::new(BTreeMap::new());
            Arc::new(Host { endpoint, base: OnceLock::new(), authorizations })
        });
        Repository::new(self.clone(), Arc::clone(host), reference)
    }

    pub(crate) fn http(&self) -> Result<&Http, RegistryError> {
        Ok(self.inner.http.get(Http::new)?)
    }

    /// The address of a registry, without a slash at its end. An insecure one is asked whether it
    /// speaks TLS.
    pub(crate) fn base(&self, host: &Host, what: &str) -> Result<String, RegistryError> {
        if let Some(base) = host.base.get() {
            return Ok(base.clone());
        }
        let name = &host.endpoint.host;
        let secure = format!("https://{name}");
        let mut base = secure.clone();
        if host.endpoint.insecure {
            let mut ping = Call {
                what,
                method: "GET",
                url: format!("{secure}/v2/"),
                headers: Vec::new(),
                payload: Payload::Nothing,
                insecure: true,
                is_content: false,
                is_elsewhere: false,
            };
            if self.http()?.once(&mut ping).is_err() {
                base = format!("http://{name}");
            }
        }
        Ok(host.base.get_or_init(|| base).clone())
    }

    /// Makes a request with the rights that its scope needs, and gets them if it must.
    pub(crate) fn authorized(
        &self,
        host: &Host,
        scope: &Scope,
        call: &mut Call<'_>,
    ) -> Result<Response<Body>, RegistryError> {
        let http = self.http()?;
        // An upload may lead elsewhere, where nobody must see who asks.
        let is_own = is_same_origin(&call.url, &self.base(host, call.what)?);
        if let Some(value) = host.authorization(scope).filter(|_| is_own) {
            call.headers.push(("Authorization", value));
        }
        let response = http.send(call)?;
        // A challenge of who stores blobs for the registry is none of the registry: it must not say
        // where the password goes.
        if response.status().as_u16() != 401 || !is_own || call.is_elsewhere {
            return Ok(response);
        }
        let challenge = response
            .headers()
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .max_by_key(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let Some(challenge) = challenge else {
            return Err(call.refused(&host.endpoint.registry, response));
        };
        drop(response);
        call.headers.retain(|(name, _)| *name != "Authorization");
        let value = self.authorize(host, scope, &challenge, call.what)?;
        host.authorize(scope, &value);
        call.headers.push(("Authorization", value));
        if matches!(call.payload, Payload::Stream(..)) {
            // What was sent is gone; the caller begins again, with the rights that it now has.
            return Err(self.login(host, call.what, false));
        }
        let response = http.send(call)?;
        if response.status().as_u16() == 401 {
            let had_credentials = self.credentials(host, scope, call.what)?.is_some();
            return Err(self.login(host, call.what, had_credentials));
        }
        Ok(response)
    }

    fn login(&self, host: &Host, what: &str, had_credentials: bool) -> RegistryError {
        RegistryError::Login {
            what: what.to_owned(),
            registry: host.endpoint.registry.clone(),
            file: self.inner.credentials.files.first().cloned(),
            had_credentials,
        }
    }

    fn credentials(
        &self,
        host: &Host,
        scope: &Scope,
        what: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let found = self.inner.credentials.find(&host.endpoint, &scope.repository);
        found.map_err(|source| RegistryError::Credentials { what: what.to_owned(), source })
    }

    /// Returns the value of `Authorization`.
    fn authorize(
        &self,
        host: &Host,
        scope: &Scope,
        challenge: &Challenge,
        what: &str,
    ) -> Result<String, RegistryError> {
        let credentials = self.credentials(host, scope, what)?;
        match (challenge, credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                Ok(basic(&user, &password))
            }
            (Challenge::Basic, Some(Credentials::Identity(_))) => Err(self.login(host, what, true)),
            (Challenge::Basic, None) => Err(self.login(host, what, false)),
            (Challenge::Bearer { realm, service, scope: asked }, credentials) => {
                let request =
                    TokenRequest { realm, service: service.as_deref(), asked: asked.as_deref() };
                let token = self.token(host, scope, &request, credentials.as_ref(), what)?;
                Ok(format!("Bearer {token}"))
            }
        }
    }

    /// Whether a token server need not prove who it is: one on the host of an insecure registry, one
    /// that was said to be insecure itself, and any for who has nothing to lose.
    fn may_be_unproven(&self, host: &Host, realm: &str, had_credentials: bool) -> bool {
        let registry = format!("https://{}", host.endpoint.host);
        let (name, with_port) = host_of(realm);
        let is_near = host.endpoint.insecure
            && (!had_credentials || name.eq_ignore_ascii_case(host_of(&registry).0));
        is_near
            || self.inner.insecure.contains(with_port)
            || Endpoint::new(with_port, false).insecure
    }

    /// Gets a token from the server that the registry names.
    fn token(
        &self,
        host: &Host,
        scope: &Scope,
        request: &TokenRequest<'_>,
        credentials: Option<&Credentials>,
        what: &str,
    ) -> Result<String, RegistryError> {
        let had_credentials = credentials.is_some();
        let mut parameters = Vec::new();
        if let Some(service) = request.service {
            parameters.push(("service", service.to_owned()));
        }
        let mut scopes = scope.texts();
        // A registry may know its own scope better.
        if let Some(asked) = request.asked
            && !scopes.iter().any(|own| own.starts_with(asked))
        {
            scopes.push(asked.to_owned());
        }
        let mut call = Call {
            what,
            method: "GET",
            url: request.realm.to_owned(),
            headers: Vec::new(),
            payload: Payload::Nothing,
            insecure: self.may_be_unproven(host, request.realm, had_credentials),
            is_content: false,
            is_elsewhere: false,
        };
        if had_credentials && !call.insecure && !call.url.starts_with("https://") {
            let (what, url) = (what.to_owned(), shown(request.realm));
            let host = host_of(request.realm).1.to_owned();
            return Err(RegistryError::Unprotected { what, url, host });
        }
        let form;
        if let Some(Credentials::Identity(token)) = credentials {
            parameters.push(("grant_type", "refresh_token".to_owned()));
            parameters.push(("refresh_token", token.clone()));
            parameters.push(("client_id", "corten".to_owned()));
            parameters.push(("scope", scopes.join(" ")));
            form = query(&parameters);
            call.method = "POST";
            call.headers.push(("Content-Type", "application/x-www-form-urlencoded".to_owned()));
            call.payload = Payload::Bytes(form.as_bytes());
        } else {
            parameters.extend(scopes.into_iter().map(|scope| ("scope", scope)));
            let separator = if request.realm.contains('?') { '&' } else { '?' };
            call.url = format!("{}{separator}{}", request.realm, query(&parameters));
            if let Some(Credentials::Password { user, password }) = credentials {
                call.headers.push(("Authorization", basic(user, password)));
            }
        }
        let response = self.http()?.send(&mut call)?;
        match response.status().as_u16() {
            200 => read_token(self.http()?, &mut call, response),
            400 | 401 | 403 => Err(self.login(host, what, had_credentials)),
            _ => Err(call.refused(&host.endpoint.registry, response)),
        }
    }
}

/// What a registry says about its token server.
struct TokenRequest<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    asked: Option<&'a str>,
}

fn read_token(
    http: &Http,
    call: &mut Call<'_>,
    response: Response<Body>,
) -> Result<String, RegistryError> {
    let bytes = http.read_again(call, response, TOKEN_BYTES_MAX)?;
    // What came is not shown: it may be a token after all.
    token_of(&bytes).ok_or_else(|| call.protocol("it is no token"))
}

/// The token in the answer of a token server.
pub(crate) fn token_of(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token)?;
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    (!token.is_empty() && token.len() <= TOKEN_LENGTH_MAX && is_plain).then_some(token)
}

fn basic(user: &str, password: &str) -> String {
    basic_authorization(&format!("{user}:{password}"))
}

fn query(parameters: &[(&str, String)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    pairs.join("&")
}

/// Escapes a value for a query.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// What a request wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    pub(crate) push: bool,
    /// Another repository that is read from.
    pub(crate) from: Option<String>,
}

impl Scope {
    fn texts(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.from.iter().map(|from| format!("repository:{from}:pull"));
        std::iter::once(own).chain(from).collect()
    }
}

impl Host {
    fn authorization(&self, scope: &Scope) -> Option<String> {
        let known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&scope.texts().join(" ")).cloned()
    }

    fn authorize(&self, scope: &Scope, value: &str) {
        let mut known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.texts().join(" "), value.to_owned());
    }
}

/// A header that must be there.
pub(crate) fn required<'r>(
    call: &Call<'_>,
    response: &'r Response<Body>,
    name: &str,
) -> Result<&'r str, RegistryError> {
    header(response, name).ok_or_else(|| call.protocol(format!("it has no `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_insecure_as_its_registry_need_not_prove_who_it_is() {
        let unproven = |registry: &str, insecure: &[&str], realm: &str, has_password: bool| {
            let insecure = insecure.iter().map(|&name| name.to_owned()).collect();
            let client = Client::new(ClientOptions { insecure, ..ClientOptions::default() });
            let endpoint = Endpoint::new(registry, client.inner.insecure.contains(registry));
            let authorizations = Mutex::new(BTreeMap::new());
            let host = Host { endpoint, base: OnceLock::new(), authorizations };
            client.may_be_unproven(&host, realm, has_password)
        };
        let (one, other) = ("a.example:5000", "b.example:5001");
        for (insecure, realm, has_password, expected) in [
            (&[one][..], "http://a.example:5000/token", true, true),
            (&[one], "http://A.example:5001/token", true, true),
            (&[one], "http://b.example:5001/token", true, false),
            (&[one], "http://b.example:5001/token", false, true),
            (&[one], "http://a.example@b.example:5001/token", true, false),
            (&[one, other], "http://b.example:5001/token", true, true),
            (&[other], "http://b.example:5001/token", true, true),
            (&[], "http://a.example:5000/token", false, false),
            (&[], "http://localhost:5001/token", true, true),
        ] {
            let found = unproven(one, insecure, realm, has_password);
            assert_eq!(found, expected, "{insecure:?} {realm} {has_password}");
        }
    }
}
