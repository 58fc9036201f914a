//! Networks: what containers are on, and find each other by.
//!
//! ```text
//! networks/lock          held alone while networks are made or removed
//! networks/<name>.json   what it is
//! ```
//!
//! A record says what a network is to be: its bridge and its firewall tables are made on the host when the
//! first container comes, and again after the machine was started anew. Which container has which address is
//! not in the store: it is true for the living only. A network that a container is made for is not removed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::lock::FileLock;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The folder below the store.
const FOLDER: &str = "networks";

/// The only form that there is.
const VERSION: u32 = 1;

/// What is written down about a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The version of the form; 1.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    /// Seconds since 1970.
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    /// As they were given.
    pub options: BTreeMap<String, String>,
    pub shape: NetworkShape,
}

/// What a network is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkShape {
    /// The interface of the host.
    pub bridge: String,
    /// The first address and the bits of its subnet.
    pub subnet: (Ipv4Addr, u8),
    /// The host's own address on it.
    pub gateway: Ipv4Addr,
    /// The part of the subnet that is given to those who ask for no address.
    pub range: Option<(Ipv4Addr, u8)>,
    /// Its subnet of IPv6, and the host's own address on it.
    pub ipv6: Option<(Ipv6Addr, u8, Ipv6Addr)>,
    /// The largest packet; `None` takes that of the way out.
    pub mtu: Option<u32>,
    /// Without a way out.
    pub internal: bool,
}

/// A container's wish for a place on a network, as it is kept with the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNetwork {
    /// The id of the network; `bridge` is the one of all containers that ask for none.
    pub network: String,
    /// What it was called when the container was put on it.
    pub name: String,
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address, as text.
    #[serde(default)]
    pub mac: Option<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub gateway_priority: i32,
}

impl Store {
    /// Makes a network of what `shape` decides, which is told of the networks that there are; `None` if there
    /// is one of that name already.
    pub fn create_network<E: From<StoreError>>(
        &self,
        name: &str,
        describe: impl FnOnce(&[NetworkRecord]) -> Result<NetworkRecord, E>,
    ) -> Result<Option<NetworkRecord>, E> {
        let _lock = self.run(|inner| {
            inner.check_writable()?;
            place(inner, name)?;
            lock(inner)
        })?;
        if self.run(|inner| read(inner, name))?.is_some() {
            return Ok(None);
        }
        let record = describe(&self.networks()?)?;
        let record = NetworkRecord { version: VERSION, name: name.to_owned(), ..record };
        self.run(|inner| {
            let record = NetworkRecord { created: inner.now(), ..record.clone() };
            inner.put_json(&place(inner, name)?, &record, Durability::Durable)?;
            Ok(Some(record))
        })
        .map_err(E::from)
    }

    /// Finds all networks, in the order of their names.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>, StoreError> {
        self.run(|inner| {
            let root = inner.layout.root.join(FOLDER);
            let names = file::absent_is_none(file::list_dir(&root))?.unwrap_or_default();
            let mut networks = Vec::new();
            for name in names {
                if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                    networks.extend(read(inner, name)?);
                }
            }
            Ok(networks)
        })
    }

    /// Returns the network of a name, of an id, or of the beginning of an id that is one network's only.
    pub fn network(&self, name: &str) -> Result<Option<NetworkRecord>, StoreError> {
        if crate::containers::check_name(name).is_ok()
            && let Some(found) = self.run(|inner| read(inner, name))?
        {
            return Ok(Some(found));
        }
        let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Ok(None);
        }
        let mut found = self.networks()?;
        found.retain(|network| network.id.starts_with(name));
        Ok(if found.len() == 1 { found.pop() } else { None })
    }

    /// Removes a network that no container is made for; false if there is none of that name.
    ///
    /// `forget` takes it off the host before its record goes, so that a failure leaves something to be
    /// tried again.
    pub fn remove_network<E: From<StoreError>>(
        &self,
        name: &str,
        forget: impl FnOnce(&NetworkRecord) -> Result<(), E>,
    ) -> Result<bool, E> {
        let _lock = self.run(|inner| {
            inner.check_writable()?;
            lock(inner)
        })?;
        let Some(network) = self.network(name)? else { return Ok(false) };
        let users = self.network_users(&network.id)?;
        if !users.is_empty() {
            let (name, containers) = (network.name, users);
            return Err(StoreError::NetworkInUse { name, containers }.into());
        }
        forget(&network)?;
        let removed = self.run(|inner| inner.remove_record(&place(inner, &network.name)?))?;
        Ok(removed)
    }

    /// Returns the names of the containers that are made for a network.
    pub fn network_users(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let containers = self.containers()?;
        let users = containers.into_iter().map(|container| container.record);
        Ok(users.filter(|record| record.is_on(id)).map(|record| record.name).collect())
    }
}

fn place(inner: &Inner, name: &str) -> Result<PathBuf, StoreError> {
    let form = crate::containers::check_name(name);
    form.map_err(|_| StoreError::NetworkNameForm { name: name.to_owned() })?;
    Ok(inner.layout.root.join(FOLDER).join(format!("{name}.json")))
}

/// Keeps others from making and removing networks.
fn lock(inner: &Inner) -> Result<FileLock, StoreError> {
    let root = inner.layout.root.join(FOLDER);
    // A store that was made before there were networks gets its folder with the first.
    file::create_dirs(&root, 0o700)?;
    Ok(FileLock::exclusive(&root.join("lock"))?)
}

fn read(inner: &Inner, name: &str) -> Result<Option<NetworkRecord>, StoreError> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let path = place(inner, name)?;
    let Some(head) = read_json::<Head>(&path)? else { return Ok(None) };
    if head.version != VERSION {
        let source =
            IoError::new("read", &path, std::io::Error::from(std::io::ErrorKind::Unsupported));
        return Err(StoreError::Io(source));
    }
    read_json(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    fn record(id: &str, bridge: &str) -> NetworkRecord {
        NetworkRecord {
            version: 0,
            id: id.repeat(32),
            name: String::new(),
            created: 0,
            labels: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
            options: BTreeMap::new(),
            shape: NetworkShape {
                bridge: bridge.to_owned(),
                subnet: (Ipv4Addr::new(10, 216, 0, 0), 24),
                gateway: Ipv4Addr::new(10, 216, 0, 1),
                range: None,
                ipv6: Some((Ipv6Addr::LOCALHOST, 64, Ipv6Addr::LOCALHOST)),
                mtu: Some(1400),
                internal: false,
            },
        }
    }

    /// A store in a directory that goes away with the test.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            file::remove_tree(&self.0).unwrap();
        }
    }

    fn store() -> (Scratch, Store) {
        let root = std::env::temp_dir().join(format!("corten-{}", corten_sys::random::name()));
        let store = Store::open(&StoreOptions::new(&root)).unwrap();
        (Scratch(root), store)
    }

    fn make(store: &Store, name: &str, id: &str) -> Result<Option<NetworkRecord>, StoreError> {
        store.create_network(name, |_| Ok(record(id, "ctn-0")))
    }

    #[test]
    fn a_network_is_found_by_name_id_and_the_beginning_of_its_id() {
        let (_dir, store) = store();
        let made = make(&store, "web", "ab").unwrap().unwrap();
        assert_eq!((made.name.as_str(), made.version), ("web", 1));
        assert!(make(&store, "web", "cd").unwrap().is_none(), "a name is given once");
        make(&store, "back", "ac").unwrap();
        for name in ["web", "ab", &made.id] {
            assert_eq!(store.network(name).unwrap().as_ref(), Some(&made), "{name}");
        }
        for name in ["a", "none", "", "../web", "ffff"] {
            assert_eq!(store.network(name).unwrap(), None, "{name}");
        }
        let names: Vec<String> =
            store.networks().unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["back", "web"]);
    }

    #[test]
    fn who_makes_a_network_knows_the_others() {
        let (_dir, store) = store();
        make(&store, "web", "ab").unwrap();
        let made = store.create_network("back", |others| {
            assert_eq!(others.len(), 1);
            Ok::<_, StoreError>(record("cd", "ctn-1"))
        });
        assert!(made.unwrap().is_some());
        let bad = make(&store, "a/b", "ef");
        assert!(matches!(bad, Err(StoreError::NetworkNameForm { .. })), "{bad:?}");
    }

    #[test]
    fn a_network_that_cannot_be_taken_off_the_host_keeps_its_record() {
        let (_dir, store) = store();
        let made = make(&store, "web", "ab").unwrap().unwrap();
        let id = made.id.clone();
        let refused = store.remove_network("web", |_| {
            Err(StoreError::ContainerMissing { id: "any error".to_owned() })
        });
        assert!(refused.is_err());
        assert_eq!(store.network(&id).unwrap(), Some(made));
        assert!(store.remove_network("web", |_| Ok::<_, StoreError>(())).unwrap());
        assert!(!store.remove_network("web", |_| Ok::<_, StoreError>(())).unwrap());
    }

    #[test]
    fn a_newer_form_is_refused() {
        let (dir, store) = store();
        make(&store, "web", "ab").unwrap();
        let path = dir.0.join("networks/web.json");
        file::write(&path, br#"{"version":2}"#).unwrap();
        assert!(store.network("web").is_err());
    }
}
