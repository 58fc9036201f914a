//! Where the containers that run are, as files that every command can read.
//!
//! ```text
//! DIRECTORY/containers/ID   a LiveContainer in JSON, replaced as a whole
//! ```
//!
//! Whether it is true any more is told by the container's first process, which the file names with
//! the time of its start: with that process the namespace goes, and everything in it. Files are
//! written and removed in the turn of `lease`; those of the dead are passed over by readers, and
//! removed by the next one who finds their lease.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use corten_sys::error::{IoError, at};
use corten_sys::file;
use corten_sys::netlink::route::RouteSocket;
use corten_sys::userns::{is_whole_system, own_map};
use serde::{Deserialize, Serialize};

use super::config::Mac;
use super::lease::{Turn, start_time};
use super::ports::Protocol;
use super::{NetworkError, pasta};

/// A container with every port published and a hundred networks is some 200 KB.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// The only form that there is.
const VERSION: u32 = 1;

/// Only who runs the containers has business here, as with leases.
const MODE: u32 = 0o600;

/// A container that runs, as others on its host see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveContainer {
    /// The version of the form.
    pub version: u32,
    /// The container.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its first process, and when that was started in ticks since boot.
    pub process: (i32, u64),
    /// Its places on networks, in the order of its interfaces.
    pub endpoints: Vec<LiveEndpoint>,
    /// Its published ports.
    pub ports: Vec<LivePort>,
    /// Whether it asks a name server of its own.
    pub names: bool,
}

/// A running container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveEndpoint {
    /// The id of the network.
    pub network: String,
    /// What people call the network.
    pub network_name: String,
    /// The interface inside.
    pub interface: String,
    /// The other side of it on the host.
    pub veth: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// How many bits the addresses of the network share.
    pub prefix_bits: u8,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Its address of IPv6, the bits of the network, and the bridge's.
    pub ipv6: Option<(Ipv6Addr, u8, Ipv6Addr)>,
    /// Its hardware address.
    pub mac: Mac,
    /// Further names that others on the network find it by.
    pub aliases: Vec<String>,
    /// Nothing goes out of the network.
    pub internal: bool,
}

impl LiveEndpoint {
    /// Returns its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6.map(|(address, _, _)| IpAddr::V6(address));
        std::iter::once(IpAddr::V4(self.address)).chain(ipv6)
    }
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePort {
    /// The host's address and port.
    pub host: SocketAddr,
    /// The port inside.
    pub container: u16,
    /// What travels.
    pub protocol: Protocol,
}

impl LiveContainer {
    /// A container whose first process lives now, on no network yet.
    pub(super) fn new(id: &str, name: &str, pid: i32) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            name: name.to_owned(),
            process: (pid, start_time(pid).unwrap_or_default()),
            ..Self::default()
        }
    }

    /// Returns true while its first process lives.
    pub fn is_alive(&self) -> bool {
        let (pid, started) = self.process;
        started != 0 && start_time(pid) == Some(started)
    }

    /// Returns its place on a network.
    pub fn endpoint(&self, network: &str) -> Option<&LiveEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == network)
    }

    /// Returns the beginning of the id that people are shown, and may use as a name.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What is known of the containers that run on this host.
#[derive(Debug, Clone)]
pub struct Register {
    directory: PathBuf,
    folder: PathBuf,
}

impl Register {
    /// Finds the register of the calling process's network and user; it need not exist.
    pub fn here() -> Result<Self, NetworkError> {
        let directory = super::state_directory()?;
        if is_whole_system(&own_map("uid_map")?) {
            return Ok(Self::at(&directory));
        }
        Ok(pasta::open_records(&directory)?.register())
    }

    /// The register below a directory.
    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), folder: directory.join("containers") }
    }

    /// The directory that everything about networks is in.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns what is known of a container that runs.
    pub fn read(&self, id: &str) -> Option<LiveContainer> {
        self.whatever(id).filter(LiveContainer::is_alive)
    }

    /// Returns all containers that run and have a network.
    pub fn all(&self) -> Result<Vec<LiveContainer>, IoError> {
        let names = file::absent_is_none(file::list_dir(&self.folder))?.unwrap_or_default();
        Ok(names.iter().filter_map(|name| self.read(name.to_str()?)).collect())
    }

    /// Returns the containers that run and are on a network.
    pub fn on(&self, network: &str) -> Result<Vec<LiveContainer>, IoError> {
        let mut found = self.all()?;
        found.retain(|container| container.endpoint(network).is_some());
        Ok(found)
    }

    /// Returns whose published port this is.
    pub(super) fn publisher(&self, port: u16, protocol: Protocol) -> Option<String> {
        let is_it = |one: &LivePort| one.host.port() == port && one.protocol == protocol;
        let found = self.all().ok()?;
        let found = found.into_iter().find(|container| container.ports.iter().any(is_it))?;
        Some(found.name)
    }

    /// Returns what was written down about a container, whether it runs or not.
    pub(super) fn whatever(&self, id: &str) -> Option<LiveContainer> {
        let path = self.path(id)?;
        // One that is torn, of another version or has just been removed tells nothing.
        let bytes = file::read_limited(&path, RECORD_BYTES_MAX).ok()?;
        let found: LiveContainer = serde_json::from_slice(&bytes).ok()?;
        Some(found).filter(|found| found.version == VERSION)
    }

    /// The file of a container; none for a name that is no id.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_id = !id.is_empty() && !id.starts_with('.') && id.bytes().all(plain);
        is_id.then(|| self.folder.join(id))
    }

    /// Writes down where a container is.
    pub(super) fn publish(
        &self,
        _turn: &Turn,
        container: &LiveContainer,
    ) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(container).map_err(NetworkError::Record)?;
        let Some(path) = self.path(&container.id) else { return Ok(()) };
        if !file::exists(&self.folder)? {
            file::create_dirs(&self.folder, 0o700)?;
        }
        // It need not outlive the machine, so that nothing waits for a disk.
        let name = format!(".{}.{}", container.short_id(), corten_sys::random::name());
        let aside = self.folder.join(name);
        let made = file::create_new(&aside, MODE)?;
        file::write_all(&made, &aside, &bytes)?;
        Ok(file::rename(&aside, &path)?)
    }

    /// Forgets a container.
    pub(super) fn remove(&self, _turn: &Turn, id: &str) -> Result<(), IoError> {
        let Some(path) = self.path(id) else { return Ok(()) };
        file::absent_is_none(file::remove_file(&path)).map(drop)
    }

    /// Takes away what a dead container has left; one that lives again stays.
    pub(super) fn sweep(&self, turn: &Turn, id: &str) -> Result<(), NetworkError> {
        let Some(found) = self.whatever(id).filter(|found| !found.is_alive()) else {
            return Ok(());
        };
        remove_interfaces(&found)?;
        Ok(self.remove(turn, id)?)
    }

    /// Takes away what dead containers have left.
    pub(super) fn sweep_all(&self, turn: &Turn) -> Result<(), NetworkError> {
        let names = file::absent_is_none(file::list_dir(&self.folder))?.unwrap_or_default();
        for id in names.iter().filter_map(|name| name.to_str()) {
            self.sweep(turn, id)?;
        }
        Ok(())
    }
}

/// Removes a container's interfaces; they go with its namespace, unless another container has that.
pub(super) fn remove_interfaces(container: &LiveContainer) -> Result<(), NetworkError> {
    let mut socket = RouteSocket::open()?;
    for endpoint in &container.endpoints {
        if let Some(link) = socket.link(&endpoint.veth)? {
            match socket.remove_link(link.index) {
                // The namespace went just now.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// The register as somebody sees it who looks often: files are read again only if they are new.
#[derive(Debug)]
pub(super) struct Watched {
    register: Register,
    /// By the name of the file, with what tells it from one in its place.
    known: BTreeMap<String, (Identity, LiveContainer)>,
}

/// A file's number and its time in seconds and nanoseconds.
type Identity = (u64, i64, i64);

impl Watched {
    pub(super) fn new(register: Register) -> Self {
        Self { register, known: BTreeMap::new() }
    }

    /// Returns all containers, also such as have just died.
    pub(super) fn look(&mut self) -> Result<impl Iterator<Item = &LiveContainer>, IoError> {
        let mut known = std::mem::take(&mut self.known);
        let folder = &self.register.folder;
        for entry in std::fs::read_dir(folder).map_err(at("list", folder))? {
            let entry = entry.map_err(at("list", folder))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // One that has gone just now is no container any more.
            let Ok(metadata) = entry.metadata() else { continue };
            let identity = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
            let found = match known.remove(&name) {
                Some((same, found)) if same == identity => Some(found),
                _ => self.register.whatever(&name),
            };
            self.known.extend(found.map(|found| (name, (identity, found))));
        }
        Ok(self.known.values().map(|(_, container)| container))
    }
}

#[cfg(test)]
mod tests {
    use corten_testkit::TempDir;

    use super::super::lease::Leases;
    use super::*;

    fn endpoint(network: &str, last: u8) -> LiveEndpoint {
        LiveEndpoint {
            network: network.to_owned(),
            network_name: network.to_owned(),
            interface: "eth0".to_owned(),
            veth: "veth-of-nobody".to_owned(),
            address: Ipv4Addr::new(10, 216, 0, last),
            prefix_bits: 24,
            gateway: Ipv4Addr::new(10, 216, 0, 1),
            ipv6: None,
            mac: Mac([2, 0, 0, 0, 0, last]),
            aliases: vec!["db".to_owned()],
            internal: false,
        }
    }

    fn container(id: &str, name: &str) -> LiveContainer {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut container = LiveContainer::new(id, name, pid);
        container.endpoints.push(endpoint("net", 2));
        container
    }

    #[test]
    fn a_container_is_known_while_its_process_lives() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let register = leases.register();
        let turn = leases.turn().unwrap();
        let one = container("ab", "one");
        register.publish(&turn, &one).unwrap();
        assert_eq!(register.read("ab"), Some(one.clone()));
        assert_eq!(register.on("net").unwrap(), std::slice::from_ref(&one));
        assert_eq!(register.on("other").unwrap(), []);
        let dead = LiveContainer { process: (one.process.0, 1), ..one };
        register.publish(&turn, &dead).unwrap();
        assert_eq!(register.read("ab"), None);
        register.sweep_all(&turn).unwrap();
        assert_eq!(file::list_dir(&register.folder).unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let register = leases.register();
        assert_eq!(register.all().unwrap(), [], "before there is one");
        register.publish(&leases.turn().unwrap(), &container("ab", "one")).unwrap();
        file::write(&register.folder.join("cd"), b"{\"version\":9}").unwrap();
        file::write(&register.folder.join("ef"), b"torn").unwrap();
        assert_eq!(register.all().unwrap().len(), 1);
        assert_eq!(register.read("../containers/ab"), None);
    }

    #[test]
    fn who_looks_often_sees_what_changes() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let (register, turn) = (leases.register(), leases.turn().unwrap());
        let mut watched = Watched::new(register.clone());
        let mut names = || -> Vec<String> {
            watched.look().map(|all| all.map(|one| one.name.clone()).collect()).unwrap_or_default()
        };
        assert_eq!(names(), [""; 0]);
        register.publish(&turn, &container("ab", "one")).unwrap();
        register.publish(&turn, &container("cd", "two")).unwrap();
        assert_eq!(names(), ["one", "two"]);
        register.publish(&turn, &container("ab", "three")).unwrap();
        assert_eq!(names(), ["three", "two"]);
        register.remove(&turn, "ab").unwrap();
        assert_eq!(names(), ["two"]);
    }
}
