//! Which container has which address, as files that many processes share.
//!
//! ```text
//! DIRECTORY/lock            locked while an address is chosen and while the host is prepared
//! DIRECTORY/last            the address that was given last, as text; losing it is harmless
//! DIRECTORY/leases/ADDRESS  locked by the corten process of the container; says whose it is
//! DIRECTORY/networks/ID/    `last` and `leases` of a network that somebody has made
//! DIRECTORY/joined/ID       another container has the network namespace of this one
//! DIRECTORY/containers/ID   where a running container is, see `register`
//! DIRECTORY/helpers/NAME    locked by the corten process that a helper program serves
//! ```
//!
//! Invariants:
//! - An address belongs to a container while its file is locked, or while the process that the
//!   file names lives: a container may outlive the corten that started it.
//! - Files are made, taken over and removed only under `lock`. A process that was killed leaves
//!   its file; the next one to choose an address removes it.
//! - A helper program (`pasta`) whose record is not locked has lost its `corten`; the next one to
//!   start a helper ends it.
//! - Addresses are given in turn, so that a new container does not get one whose last holder is
//!   still being taken down by the kernel.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::lock::FileLock;
use corten_sys::process::PidFd;
use corten_sys::{file, random};

use super::NetworkError;
use super::register::Register;
use super::subnet::Subnet;

/// A lease is three short lines, and a line of `/proc/PID/stat` is below a page.
const FILE_BYTES_MAX: u64 = 4096;

/// Only the user who runs the containers has business here.
const DIRECTORY_MODE: u32 = 0o700;

const HEADER: &str = "corten lease 1";

/// The leases of one network of one host.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    /// Of the host.
    directory: PathBuf,
    /// Of the network.
    place: PathBuf,
}

/// What addresses can be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) subnet: Subnet,
    pub(super) gateway: Ipv4Addr,
    /// Those to choose from, where nobody asks for one.
    pub(super) range: Option<Subnet>,
    /// The one that is asked for.
    pub(super) exact: Option<Ipv4Addr>,
    /// Those that others will ask for.
    pub(super) reserved: &'a [Ipv4Addr],
}

/// A helper program that is to be ended if this process cannot do it.
#[derive(Debug)]
pub(super) struct HelperRecord {
    leases: Leases,
    path: PathBuf,
    lock: FileLock,
}

/// The right to choose an address and to prepare the host, held until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: FileLock,
}

/// An address that belongs to a container until it is released.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Leases,
    address: Ipv4Addr,
    lock: FileLock,
}

/// The container that an address is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder<'a> {
    pub(super) container_id: &'a str,
    pub(super) pid: i32,
}

impl Leases {
    /// Makes the directory, unless it is there.
    pub(super) fn open(directory: &Path) -> Result<Self, IoError> {
        for part in ["leases", "helpers"] {
            file::create_dirs(&directory.join(part), DIRECTORY_MODE)?;
        }
        Ok(Self { directory: directory.to_owned(), place: directory.to_owned() })
    }

    /// Returns the leases of a network that somebody has made.
    pub(super) fn of_network(&self, id: &str) -> Result<Self, IoError> {
        let place = self.directory.join("networks").join(id);
        file::create_dirs(&place.join("leases"), DIRECTORY_MODE)?;
        Ok(Self { directory: self.directory.clone(), place })
    }

    /// Returns what is known of the containers that run here.
    pub(super) fn register(&self) -> Register {
        Register::at(&self.directory)
    }

    /// Notes that another container has the network namespace of this one.
    pub(super) fn note_joiner(&self, _turn: &Turn, id: &str) -> Result<(), IoError> {
        let folder = self.directory.join("joined");
        file::create_dirs(&folder, DIRECTORY_MODE)?;
        file::write(&folder.join(id), b"")
    }

    /// Returns true if another container has had the network namespace of this one.
    pub(super) fn has_joiners(&self, id: &str) -> Result<bool, IoError> {
        file::exists(&self.directory.join("joined").join(id))
    }

    pub(super) fn forget_joiners(&self, _turn: &Turn, id: &str) -> Result<(), IoError> {
        let path = self.directory.join("joined").join(id);
        file::absent_is_none(file::remove_file(&path)).map(drop)
    }

    /// Forgets a network that is no more.
    pub(super) fn forget_network(&self, _turn: &Turn, id: &str) -> Result<(), IoError> {
        file::remove_tree(&self.directory.join("networks").join(id))
    }

    /// Returns where the leases are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until no other process prepares the host.
    pub(super) fn turn(&self) -> Result<Turn, IoError> {
        Ok(Turn { _lock: FileLock::exclusive(&self.directory.join("lock"))? })
    }

    /// Takes the next free address, never the gateway's, or the one that is asked for.
    pub(super) fn take(
        &self,
        turn: &Turn,
        choice: &Choice<'_>,
        holder: Holder<'_>,
    ) -> Result<Lease, NetworkError> {
        let taken = self.sweep(turn)?;
        let address = match choice.exact {
            Some(address) => self.check(choice, &taken, address)?,
            None => self.next(choice, &taken)?,
        };
        let path = self.path(address);
        let mut lock = FileLock::try_exclusive(&path)?.ok_or_else(|| {
            // Nobody locks a lease without the turn, except a process that ends a moment later.
            IoError::new("lock", &path, std::io::Error::from(std::io::ErrorKind::WouldBlock))
        })?;
        lock.append(describe(holder).as_bytes())?;
        if choice.exact.is_none() {
            file::write(&self.place.join("last"), address.to_string().as_bytes())?;
        }
        Ok(Lease { leases: self.clone(), address, lock })
    }

    fn next(&self, choice: &Choice<'_>, taken: &[Ipv4Addr]) -> Result<Ipv4Addr, NetworkError> {
        let subnet = choice.subnet;
        let within = choice.range.unwrap_or(subnet);
        let (first, last_host) = (subnet.first(), subnet.last());
        let free = |address: &Ipv4Addr| {
            *address != choice.gateway
                && !taken.contains(address)
                && !choice.reserved.contains(address)
        };
        // All of a range can be given, unless it begins or ends where the subnet does.
        let all = || {
            (within.first().to_bits()..=within.last().to_bits())
                .map(Ipv4Addr::from_bits)
                .filter(move |address| *address != first && *address != last_host)
        };
        let last = self.last();
        let after = all().filter(|address| Some(*address) > last).find(free);
        let address = after.or_else(|| all().find(free));
        address.ok_or(NetworkError::NoFreeAddress { subnet: within, containers: taken.len() })
    }

    fn check(
        &self,
        choice: &Choice<'_>,
        taken: &[Ipv4Addr],
        address: Ipv4Addr,
    ) -> Result<Ipv4Addr, NetworkError> {
        let subnet = choice.subnet;
        let refused =
            |reason: String| NetworkError::AddressRefused { address: address.into(), reason };
        if !subnet.contains(address) {
            return Err(refused(format!("the network has {subnet}")));
        }
        if address == choice.gateway {
            return Err(refused("it is the gateway's".to_owned()));
        }
        if subnet.bits() < 31 && (address == subnet.first() || address == subnet.last()) {
            return Err(refused(format!("it is the first or the last one of {subnet}")));
        }
        if !taken.contains(&address) {
            return Ok(address);
        }
        let id = self.holder(address).unwrap_or_default();
        let known = self.register().read(&id);
        let holder = known.map_or(id, |container| container.name);
        Err(NetworkError::AddressTaken { address: address.into(), holder })
    }

    /// Returns the id of the container that an address is for.
    fn holder(&self, address: Ipv4Addr) -> Option<String> {
        let bytes = file::read_limited(&self.path(address), FILE_BYTES_MAX).ok()?;
        container_of(&String::from_utf8_lossy(&bytes))
    }

    /// Gives an address back that this process does not hold itself.
    pub(super) fn give_back(&self, _turn: &Turn, address: Ipv4Addr) -> Result<(), IoError> {
        file::absent_is_none(file::remove_file(&self.path(address))).map(drop)
    }

    /// Remembers a helper program until the record is removed.
    pub(super) fn record_helper(&self, pid: u32) -> Result<HelperRecord, NetworkError> {
        let _turn = self.turn()?;
        let path = self.directory.join("helpers").join(random::name());
        let mut lock = FileLock::exclusive(&path)?;
        let pid = i32::try_from(pid).unwrap_or_default();
        lock.append(describe(Holder { container_id: "", pid }).as_bytes())?;
        Ok(HelperRecord { leases: self.clone(), path, lock })
    }

    /// Ends the helper programs whose `corten` was killed.
    pub(super) fn end_orphans(&self) -> Result<(), NetworkError> {
        let _turn = self.turn()?;
        let directory = self.directory.join("helpers");
        for name in file::list_dir(&directory)? {
            let path = directory.join(name);
            let Some(lock) = FileLock::try_exclusive_existing(&path)? else { continue };
            if let Some((pid, handle)) = living_process(&lock, &path)? {
                handle.kill().map_err(|source| NetworkError::HelperEnd {
                    program: format!("process {pid}"),
                    source,
                })?;
            }
            file::remove_file(&path)?;
        }
        Ok(())
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.place.join("leases").join(address.to_string())
    }

    /// Returns the address that was given last.
    fn last(&self) -> Option<Ipv4Addr> {
        let bytes = file::read_limited(&self.place.join("last"), FILE_BYTES_MAX).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    /// Removes the leases of dead containers, with what else they left, and returns the addresses of
    /// the living.
    fn sweep(&self, turn: &Turn) -> Result<Vec<Ipv4Addr>, NetworkError> {
        let mut taken = Vec::new();
        for name in file::list_dir(&self.place.join("leases"))? {
            let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let path = self.path(address);
            if is_held(&path)? {
                taken.push(address);
                continue;
            }
            if let Some(id) = self.holder(address) {
                self.register().sweep(turn, &id)?;
            }
            file::absent_is_none(file::remove_file(&path))?;
        }
        Ok(taken)
    }
}

impl Lease {
    /// Returns the address.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives the address back within a turn.
    pub(super) fn release_in(self, turn: &Turn) -> Result<(), IoError> {
        drop(self.lock);
        self.leases.give_back(turn, self.address)
    }

    /// Leaves the address to the container's first process: it is taken while that lives.
    pub(super) fn leave(self) {
        drop(self.lock);
    }
}

#[cfg(test)]
impl Lease {
    /// Gives the address back in a turn of its own.
    fn release(self) -> Result<(), IoError> {
        let leases = self.leases.clone();
        self.release_in(&leases.turn()?)
    }
}

impl HelperRecord {
    /// Forgets the helper program, which has ended.
    pub(super) fn remove(self) -> Result<(), IoError> {
        let _turn = self.leases.turn()?;
        drop(self.lock);
        file::absent_is_none(file::remove_file(&self.path)).map(drop)
    }
}

/// Returns the process that a record names, if it is the same that it named then.
fn living_process(lock: &FileLock, path: &Path) -> Result<Option<(i32, PidFd)>, IoError> {
    let bytes = file::read_file_limited(lock.file(), path, FILE_BYTES_MAX)?;
    let Some((pid, started)) = process_of(&String::from_utf8_lossy(&bytes)) else {
        return Ok(None);
    };
    // The handle is opened before the comparison, so that it is that process or none.
    let handle = u32::try_from(pid).ok().and_then(|pid| PidFd::open(pid).ok());
    Ok(handle.filter(|_| start_time(pid) == Some(started)).map(|handle| (pid, handle)))
}

/// Returns true if a lease is locked or names a process that lives.
fn is_held(path: &Path) -> Result<bool, IoError> {
    let Some(lock) = FileLock::try_exclusive_existing(path)? else { return Ok(true) };
    Ok(living_process(&lock, path)?.is_some())
}

fn describe(holder: Holder<'_>) -> String {
    let Holder { container_id, pid } = holder;
    let started = start_time(pid).unwrap_or_default();
    format!("{HEADER}\ncontainer {container_id}\nprocess {pid} {started}\n")
}

/// Reads the container of a lease; a text that is cut or foreign names none.
fn container_of(text: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let id = lines.find_map(|line| line.strip_prefix("container "))?;
    Some(id.to_owned()).filter(|id| !id.is_empty())
}

/// Reads the process of a lease; a text that is cut or foreign names none.
fn process_of(text: &str) -> Option<(i32, u64)> {
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let words = lines.find_map(|line| line.strip_prefix("process "))?;
    let (pid, started) = words.split_once(' ')?;
    let started = started.parse().ok().filter(|started| *started != 0)?;
    Some((pid.parse().ok()?, started))
}

/// Returns when a living process was started, in ticks since boot: with its number it names the
/// process for good.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let bytes = file::read_limited(&path, FILE_BYTES_MAX).ok()?;
    parse_start_time(&String::from_utf8_lossy(&bytes))
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything, parentheses and spaces included.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    // A zombie has given up its namespaces already.
    fields.next().filter(|state| !matches!(*state, "Z" | "X"))?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corten_sys::command::{Child, Command};
    use corten_sys::process::Ended;
    use corten_testkit::TempDir;

    use super::*;

    const SUBNET: [u8; 4] = [10, 213, 0, 0];

    fn subnet(bits: u8) -> Subnet {
        Subnet::new(Ipv4Addr::from(SUBNET), bits)
    }

    fn holder() -> Holder<'static> {
        // A process that is always there, so that the lock and not the process decides.
        Holder { container_id: "web", pid: 0 }
    }

    fn take(leases: &Leases, bits: u8, holder: Holder<'_>) -> Result<Lease, NetworkError> {
        let turn = leases.turn().unwrap();
        leases.take(&turn, &choice(bits), holder)
    }

    fn choice(bits: u8) -> Choice<'static> {
        Choice {
            subnet: subnet(bits),
            gateway: Ipv4Addr::new(10, 213, 0, 1),
            range: None,
            exact: None,
            reserved: &[],
        }
    }

    fn take_exactly(leases: &Leases, last: u8) -> Result<Lease, NetworkError> {
        let turn = leases.turn().unwrap();
        let exact = Some(Ipv4Addr::new(10, 213, 0, last));
        leases.take(&turn, &Choice { exact, ..choice(24) }, holder())
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_once() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let held = take_exactly(&leases, 77).unwrap();
        assert_eq!(last_octet(&held), 77);
        let error = take_exactly(&leases, 77).unwrap_err();
        assert_eq!(error.to_string(), "the address 10.213.0.77 is taken by the container `web`");
        held.release().unwrap();
        let held = take_exactly(&leases, 77).unwrap();
        assert_eq!(last_octet(&take(&leases, 24, holder()).unwrap()), 2, "it is not the last one");
        drop(held);
    }

    #[test]
    fn an_address_that_is_not_a_containers_is_refused() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        for last in [0, 1, 255] {
            let error = take_exactly(&leases, last).unwrap_err();
            assert!(matches!(error, NetworkError::AddressRefused { .. }), "{error}");
        }
        let turn = leases.turn().unwrap();
        let exact = Some(Ipv4Addr::new(10, 9, 0, 2));
        let error = leases.take(&turn, &Choice { exact, ..choice(24) }, holder()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the address 10.9.0.2 cannot be had: the network has 10.213.0.0/24"
        );
    }

    #[test]
    fn addresses_are_given_from_the_range_and_not_those_that_others_will_ask_for() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let reserved = [Ipv4Addr::new(10, 213, 0, 128)];
        let range = Some(Subnet::new(Ipv4Addr::new(10, 213, 0, 128), 30));
        let choice = Choice { range, reserved: &reserved, ..choice(24) };
        let turn = leases.turn().unwrap();
        let held: Vec<Lease> =
            (0..3).map(|_| leases.take(&turn, &choice, holder()).unwrap()).collect();
        assert_eq!(held.iter().map(last_octet).collect::<Vec<_>>(), [129, 130, 131]);
        assert!(leases.take(&turn, &choice, holder()).is_err());
    }

    #[test]
    fn networks_have_leases_of_their_own() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let web = leases.of_network("ab").unwrap();
        let one = take(&leases, 24, holder()).unwrap();
        let two = take(&web, 24, holder()).unwrap();
        assert_eq!((last_octet(&one), last_octet(&two)), (2, 2));
        drop((one, two));
        leases.forget_network(&leases.turn().unwrap(), "ab").unwrap();
        assert!(!file::exists(&directory.path().join("networks/ab")).unwrap());
    }

    fn last_octet(lease: &Lease) -> u8 {
        lease.address().octets()[3]
    }

    #[test]
    fn addresses_are_given_in_turn_and_never_the_gateways() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let first = take(&leases, 22, holder()).unwrap();
        let second = take(&leases, 22, holder()).unwrap();
        assert_eq!((last_octet(&first), last_octet(&second)), (2, 3));
        first.release().unwrap();
        assert_eq!(last_octet(&take(&leases, 22, holder()).unwrap()), 4);
    }

    #[test]
    fn after_the_last_address_comes_the_first_free_one() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let held: Vec<Lease> = (0..5).map(|_| take(&leases, 29, holder()).unwrap()).collect();
        let mut held = held.into_iter();
        held.next().unwrap().release().unwrap();
        assert_eq!(last_octet(&take(&leases, 29, holder()).unwrap()), 2);
        drop(held);
    }

    #[test]
    fn no_free_address_is_an_error() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let _only = take(&leases, 30, holder()).unwrap();
        let error = take(&leases, 30, holder()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no address of 10.213.0.0/30 is free, 1 containers hold them"
        );
    }

    #[test]
    fn the_lease_of_a_killed_process_is_taken_over() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        drop(take(&leases, 30, holder()).unwrap());
        assert!(file::exists(&leases.path(Ipv4Addr::new(10, 213, 0, 2))).unwrap());
        assert_eq!(last_octet(&take(&leases, 30, holder()).unwrap()), 2);
    }

    #[test]
    fn a_container_that_outlives_its_corten_keeps_its_address() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let alive = i32::try_from(std::process::id()).unwrap();
        drop(take(&leases, 30, Holder { container_id: "web", pid: alive }).unwrap());
        assert!(take(&leases, 30, holder()).is_err());
    }

    #[test]
    fn a_lease_of_another_form_holds_only_while_it_is_locked() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        file::write(&leases.path(Ipv4Addr::new(10, 213, 0, 2)), b"junk\0\xff").unwrap();
        assert_eq!(last_octet(&take(&leases, 30, holder()).unwrap()), 2);
    }

    #[test]
    fn a_broken_last_address_is_harmless() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        file::write(&directory.path().join("last"), b"\xff\xffnot an address").unwrap();
        assert_eq!(last_octet(&take(&leases, 22, holder()).unwrap()), 2);
    }

    #[test]
    fn a_foreign_file_among_the_leases_is_left_alone() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let foreign = directory.path().join("leases/README");
        file::write(&foreign, b"hello").unwrap();
        take(&leases, 22, holder()).unwrap().release().unwrap();
        assert!(file::exists(&foreign).unwrap());
    }

    #[test]
    fn a_release_leaves_no_file() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        take(&leases, 22, holder()).unwrap().release().unwrap();
        assert_eq!(file::list_dir(&directory.path().join("leases")).unwrap().len(), 0);
    }

    #[test]
    fn the_process_of_a_lease_is_read() {
        assert_eq!(process_of("corten lease 1\ncontainer x\nprocess 12 345\n"), Some((12, 345)));
        assert_eq!(process_of("corten lease 1\nprocess 12 0\n"), None);
        assert_eq!(process_of("corten lease 2\nprocess 12 345\n"), None);
        assert_eq!(process_of("corten lease 1\nprocess 12\n"), None);
        assert_eq!(process_of(""), None);
    }

    #[test]
    fn the_start_of_a_process_is_read_past_any_name() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = |state| format!("7 (a) b) ) {state} {}", fields.join(" "));
        assert_eq!(parse_start_time(&stat("S")), Some(22));
        assert_eq!(parse_start_time(&stat("Z")), None);
        assert_eq!(parse_start_time("7 (a"), None);
        assert_eq!(parse_start_time("7 (a) S 1 2"), None);
    }

    fn sleeper() -> Child {
        Command::new("/bin/sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_helper_whose_corten_was_killed_is_ended() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let helper = sleeper();
        // As after a kill: the lock is gone, and the file is not.
        drop(leases.record_helper(helper.pid).unwrap());
        leases.end_orphans().unwrap();
        assert_eq!(helper.handle.wait().unwrap().ended, Ended::Signal(9));
        assert_eq!(file::list_dir(&directory.path().join("helpers")).unwrap().len(), 0);
    }

    #[test]
    fn a_helper_that_serves_a_corten_is_left_alone() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let helper = sleeper();
        let record = leases.record_helper(helper.pid).unwrap();
        leases.end_orphans().unwrap();
        assert!(!helper.handle.wait_end(Some(Duration::ZERO)).unwrap());
        helper.kill_and_wait().unwrap();
        record.remove().unwrap();
        assert_eq!(file::list_dir(&directory.path().join("helpers")).unwrap().len(), 0);
    }

    #[test]
    fn a_stranger_with_the_number_of_a_dead_helper_is_left_alone() {
        let directory = TempDir::new();
        let leases = Leases::open(directory.path()).unwrap();
        let stranger = sleeper();
        let text = format!("{HEADER}\ncontainer \nprocess {} 1\n", stranger.pid);
        file::write(&directory.path().join("helpers/old"), text.as_bytes()).unwrap();
        leases.end_orphans().unwrap();
        assert!(!stranger.handle.wait_end(Some(Duration::ZERO)).unwrap());
        stranger.kill_and_wait().unwrap();
    }
}
