//! Containers whose namespaces others share: from their IDs to the files of their namespaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_runtime::{ContainerSpec, IdMapping, Namespace, SharedMemory, UserNamespace};
use corten_store::Store;
use corten_sys::process::PidFd;
use corten_sys::userns::{is_whole_system, own_map, parse_map};
use corten_sys::{file, namespace};

use crate::control;
use crate::error::MonitorError;

/// The kernel takes 340 lines of at most 32 bytes.
const MAP_BYTES_MAX: u64 = 16 << 10;

/// A container that runs.
struct Peer {
    pid: u32,
    /// While it is there, the number means this process.
    process: PidFd,
    /// The namespaces in which it differs from this process.
    different: u64,
    shares_memory: bool,
}

/// The peers of a container. As long as they are kept, it can be told whether they are still there.
#[derive(Debug, Default)]
pub struct Peers {
    processes: Vec<(String, PidFd)>,
}

impl Peers {
    /// Fails if one has ended: its number may have come to mean another process.
    pub fn check(&self) -> Result<(), MonitorError> {
        for (id, process) in &self.processes {
            let ended = process.wait_end(Some(std::time::Duration::ZERO));
            if ended.map_err(MonitorError::Control)? {
                return Err(MonitorError::PeerIsGone { id: id.clone() });
            }
        }
        Ok(())
    }
}

/// Puts the files of their namespaces into the place of the IDs of containers.
pub fn find_peers(store: &Store, spec: &mut ContainerSpec) -> Result<Peers, MonitorError> {
    let mut peers = BTreeMap::new();
    if wants_peers(spec) && !is_whole_system(&own_map("uid_map")?) {
        return Err(MonitorError::PeerOfUser);
    }
    let namespaces = &mut spec.namespaces;
    let places = [
        (&mut namespaces.pid, "pid", namespace::PID),
        (&mut namespaces.uts, "uts", namespace::UTS),
        (&mut namespaces.network, "net", namespace::NETWORK),
        (&mut namespaces.cgroup, "cgroup", namespace::CGROUP),
    ];
    for (place, kind, bit) in places {
        if let Namespace::Container(id) = place {
            *place = join(find(store, &mut peers, id)?, kind, bit);
        }
    }
    if let Namespace::Container(id) = &spec.namespaces.ipc {
        let peer = find(store, &mut peers, id)?;
        if !peer.shares_memory {
            return Err(MonitorError::PeerIsPrivate { id: id.clone() });
        }
        spec.shared_memory = match peer.different & namespace::MOUNT {
            0 => SharedMemory::Host,
            _ => SharedMemory::Of(of(peer, "mnt")),
        };
        spec.namespaces.ipc = join(peer, "ipc", namespace::IPC);
    }
    if let UserNamespace::Container(id) = &spec.user_namespace {
        let peer = find(store, &mut peers, id)?;
        spec.user_namespace = if peer.different & namespace::USER == 0 {
            UserNamespace::Host
        } else {
            let path = of(peer, "user");
            let (users, groups) = (maps(peer, "uid_map")?, maps(peer, "gid_map")?);
            UserNamespace::Join { path, users, groups }
        };
    }
    let processes = peers.into_iter().map(|(id, peer)| (id, peer.process)).collect();
    Ok(Peers { processes })
}

fn wants_peers(spec: &ContainerSpec) -> bool {
    let namespaces = &spec.namespaces;
    let places = [
        &namespaces.pid,
        &namespaces.ipc,
        &namespaces.uts,
        &namespaces.network,
        &namespaces.cgroup,
    ];
    matches!(spec.user_namespace, UserNamespace::Container(_))
        || places.iter().any(|place| matches!(place, Namespace::Container(_)))
}

fn of(peer: &Peer, kind: &str) -> PathBuf {
    Path::new("/proc").join(peer.pid.to_string()).join("ns").join(kind)
}

/// What it shares with this process is joined by staying.
fn join(peer: &Peer, kind: &str, bit: u64) -> Namespace {
    if peer.different & bit == 0 { Namespace::Host } else { Namespace::Join(of(peer, kind)) }
}

fn maps(peer: &Peer, name: &str) -> Result<Vec<IdMapping>, MonitorError> {
    let path = Path::new("/proc").join(peer.pid.to_string()).join(name);
    let text = file::read_limited(&path, MAP_BYTES_MAX)?;
    let ranges = parse_map(&String::from_utf8_lossy(&text));
    Ok(ranges.into_iter().map(IdMapping::from).collect())
}

fn find<'a>(
    store: &Store,
    peers: &'a mut BTreeMap<String, Peer>,
    id: &str,
) -> Result<&'a Peer, MonitorError> {
    if !peers.contains_key(id) {
        peers.insert(id.to_owned(), look(store, id)?);
    }
    peers.get(id).ok_or_else(|| MonitorError::PeerIsGone { id: id.to_owned() })
}

fn look(store: &Store, id: &str) -> Result<Peer, MonitorError> {
    let gone = || MonitorError::PeerIsGone { id: id.to_owned() };
    let folder = store.container_folder(id)?;
    let ask = || -> Result<(u32, bool), MonitorError> {
        let control = control::connect(&folder)?.ok_or_else(gone)?;
        control.process()?.ok_or_else(gone)
    };
    let (pid, shares_memory) = ask()?;
    let process = PidFd::open(pid).map_err(|_| gone())?;
    // It runs now, so that the number has meant it all the time.
    if ask()?.0 != pid {
        return Err(gone());
    }
    Ok(Peer { pid, process, different: namespace::different(pid)?, shares_memory })
}
