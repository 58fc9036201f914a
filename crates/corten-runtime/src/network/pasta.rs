//! A network without root, by one of two helper programs: `pasta`, else `slirp4netns`.
//!
//! Both open sockets on the host as the user does, and speak IP with the container over a tap
//! device in its namespace; neither needs rights over the host's network. Both are told to keep
//! the container from the host's loopback services, and neither publishes ports: the proxy does.
//!
//! The container's namespace is handed over as a file that it is mounted on, for as long as the
//! helper starts: a path below `/proc` would need rights that `pasta` has given up by then, and
//! newer versions close descriptors that they inherit.
//!
//! A `corten` that was killed leaves no `slirp4netns`, which watches a pipe of ours. It may leave
//! a `pasta`; the record of it is found by the next run, which ends it (see [`super::lease`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::command::{Child, Command, find_program, pipe};
use corten_sys::error::{IoError, at};
use corten_sys::netlink::route::RouteSocket;
use corten_sys::process::{Ended, PidFd};
use corten_sys::userns::own_map;
use corten_sys::{file, mount, random};
use rustix::mount::{UnmountFlags, unmount};

use super::bridge::{inside, loopback_up};
use super::lease::{HelperRecord, Leases};
use super::{NetworkError, NetworkRequest, RootlessObstacle};

/// Both are ready within some 10 ms; on a busy machine it may take a hundred times that.
const START_MAX: Duration = Duration::from_secs(10);

/// Ending is a signal, or a closed pipe, and no work.
const END_MAX: Duration = Duration::from_secs(5);

/// What a program says before it gives up is a line or two.
const SAID_BYTES_MAX: u64 = 4096;

/// A process number and a newline.
const PID_BYTES_MAX: u64 = 32;

/// The device that both make tap interfaces with.
const TUN: &str = "/dev/net/tun";

/// The largest packet between container and helper. It is not what goes over the wire, and both
/// are the quicker for it; this is what both take by default or recommend.
const MTU: &str = "65520";

/// Where `pasta` answers questions about names on behalf of the host's resolver; link-local, so
/// that it is nobody's.
const PASTA_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Where `slirp4netns` does, by default.
const SLIRP_DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// The two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pasta,
    Slirp,
}

/// A program that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    kind: Kind,
    program: PathBuf,
}

/// What the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HelperFacts {
    pasta: Option<PathBuf>,
    slirp: Option<PathBuf>,
    /// Why the device cannot be opened, if it cannot.
    tun: Option<RootlessObstacle>,
}

impl HelperFacts {
    fn gather(search_path: &OsStr) -> Self {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let opened = rustix::fs::open(TUN, flags, rustix::fs::Mode::empty());
        Self {
            pasta: find_program("pasta", search_path),
            slirp: find_program("slirp4netns", search_path),
            tun: opened.err().map(obstacle_of),
        }
    }
}

fn obstacle_of(errno: rustix::io::Errno) -> RootlessObstacle {
    use rustix::io::Errno;
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO => RootlessObstacle::NoDevice,
        errno => RootlessObstacle::DeviceRefused { errno: errno.raw_os_error() },
    }
}

/// Chooses a program, or says why each cannot be used.
fn choose(facts: &HelperFacts) -> Result<Choice, Vec<RootlessObstacle>> {
    let mut obstacles: Vec<RootlessObstacle> = facts.tun.iter().cloned().collect();
    match (&facts.pasta, &facts.slirp) {
        (Some(program), _) if obstacles.is_empty() => {
            Ok(Choice { kind: Kind::Pasta, program: program.clone() })
        }
        (None, Some(program)) if obstacles.is_empty() => {
            Ok(Choice { kind: Kind::Slirp, program: program.clone() })
        }
        (None, None) => {
            obstacles.push(RootlessObstacle::NoProgram);
            Err(obstacles)
        }
        _ => Err(obstacles),
    }
}

/// Returns what keeps an ordinary user's containers from having a network; nothing if they can.
pub fn rootless_obstacles(search_path: &OsStr) -> Vec<RootlessObstacle> {
    choose(&HelperFacts::gather(search_path)).err().unwrap_or_default()
}

/// Returns the name server that a container without root has when the host's cannot be reached
/// from it, if there is a helper program.
pub fn helper_nameserver(search_path: &OsStr) -> Option<IpAddr> {
    let choice = choose(&HelperFacts::gather(search_path)).ok()?;
    Some(IpAddr::V4(match choice.kind {
        Kind::Pasta => PASTA_DNS,
        Kind::Slirp => SLIRP_DNS,
    }))
}

/// A running helper program.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
    process: Process,
}

#[derive(Debug)]
enum Process {
    /// It has put itself in the background and is not our child.
    Pasta { handle: PidFd, record: HelperRecord },
    /// Our child, which ends when the pipe does.
    Slirp { child: Child, exit: OwnedFd },
}

impl Helper {
    /// Ends the program.
    pub(super) fn end(self) -> Result<(), NetworkError> {
        let program = display(&self.program);
        let failed = |source| NetworkError::HelperEnd { program, source };
        match self.process {
            Process::Pasta { handle, record } => {
                handle.kill().and_then(|()| handle.wait_end(Some(END_MAX))).map_err(failed)?;
                record.remove().map_err(NetworkError::from)
            }
            Process::Slirp { child, exit } => {
                drop(exit);
                end_child(&child).map_err(failed)
            }
        }
    }
}

fn end_child(child: &Child) -> io::Result<()> {
    if !child.handle.wait_end(Some(END_MAX))? {
        child.handle.kill()?;
    }
    child.handle.wait().map(drop)
}

/// Starts a helper program for a container and returns the container's address.
pub(super) fn start(
    request: &NetworkRequest<'_>,
    leases: &Leases,
) -> Result<(Helper, Ipv4Addr), NetworkError> {
    let choice = choose(&HelperFacts::gather(request.search_path))
        .map_err(|obstacles| NetworkError::RootlessUnavailable { obstacles })?;
    leases.end_orphans()?;
    let place = NamespaceFile::new(request, leases.directory())?;
    let started = match choice.kind {
        Kind::Pasta => start_pasta(&choice.program, &place, leases),
        Kind::Slirp => start_slirp(&choice.program, &place),
    };
    let removed = place.remove();
    let helper = Helper { program: choice.program, process: started? };
    let address = removed.map_err(NetworkError::from);
    match address.and_then(|()| address_inside(request, &helper.program)) {
        Ok(address) => Ok((helper, address)),
        // The first failure is the one to tell; a helper that does not end either is ended by the
        // next run, or by its pipe.
        Err(error) => match helper.end() {
            Ok(()) | Err(_) => Err(error),
        },
    }
}

/// Opens the records where the caller keeps them or, for an ordinary user who may not write there,
/// in the user's own place.
pub(super) fn open_records(state_dir: &Path) -> Result<Leases, NetworkError> {
    match Leases::open(state_dir) {
        Err(error) if is_not_ours(&error) => {
            let map = own_map("uid_map")?;
            let user = map.iter().find(|range| range.first == 0).map_or(0, |range| range.outside);
            open_own_records(Path::new("/run/user"), Path::new("/tmp"), user)
        }
        result => Ok(result?),
    }
}

fn is_not_ours(error: &IoError) -> bool {
    error.is_permission_denied() || error.errno() == Some(rustix::io::Errno::ROFS.raw_os_error())
}

/// Opens the records in the directory that the user has while logged in, else in one that nobody
/// else can have prepared.
fn open_own_records(logins: &Path, shared: &Path, user: u32) -> Result<Leases, NetworkError> {
    let login = logins.join(user.to_string());
    if file::exists(&login)? {
        match Leases::open(&login.join("corten/network")) {
            Err(error) if is_not_ours(&error) => {}
            result => return Ok(result?),
        }
    }
    let own = shared.join(format!("corten-{user}"));
    match file::create_dir(&own, 0o700) {
        Err(error) if !error.is_already_exists() => return Err(error.into()),
        _ => {}
    }
    let found = file::symlink_metadata(&own)?;
    let is_private = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o777 == 0o700;
    if !is_private {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(IoError::new("trust the directory of someone else", own, source).into());
    }
    Ok(Leases::open(&own.join("network"))?)
}

/// Returns the first address of the container that is not loopback.
fn address_inside(request: &NetworkRequest<'_>, program: &Path) -> Result<Ipv4Addr, NetworkError> {
    let addresses = inside(request.netns, || {
        let mut socket = RouteSocket::open()?;
        let loopback = loopback_up(&mut socket)?;
        let mut addresses = socket.addresses()?;
        addresses.retain(|address| address.link != loopback);
        Ok(addresses)
    })?;
    let mut ipv4 = addresses.iter().filter_map(|one| match one.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    ipv4.next().ok_or_else(|| NetworkError::HelperSilent { program: display(program) })
}

fn display(program: &Path) -> String {
    program.display().to_string()
}

/// A file that a container's network namespace is mounted on, in the mount namespace that an
/// ordinary user's `corten` has for itself.
#[derive(Debug)]
struct NamespaceFile {
    path: PathBuf,
    pid_file: PathBuf,
}

impl NamespaceFile {
    fn new(request: &NetworkRequest<'_>, directory: &Path) -> Result<Self, IoError> {
        let name = random::name();
        let path = directory.join(format!("netns-{name}"));
        let pid_file = directory.join(format!("pid-{name}"));
        drop(file::create_new(&path, 0o600)?);
        let place = Self { path, pid_file };
        match place.mount(request) {
            Ok(()) => Ok(place),
            // That the mount failed is what people need to know, not that a file stays.
            Err(error) => match place.remove() {
                Ok(()) | Err(_) => Err(error),
            },
        }
    }

    fn mount(&self, request: &NetworkRequest<'_>) -> Result<(), IoError> {
        let copy = mount::copy_descriptor(request.netns, false);
        copy.and_then(|copy| mount::attach_at(copy.as_fd(), &self.path))
            .map_err(at("mount the network namespace on", &self.path))
    }

    fn remove(self) -> Result<(), IoError> {
        match unmount(&self.path, UnmountFlags::DETACH) {
            // Nothing is mounted when the mount was what failed.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(IoError::new("unmount", &self.path, errno)),
        }
        file::remove_file(&self.path)?;
        file::absent_is_none(file::remove_file(&self.pid_file)).map(drop)
    }
}

/// `pasta` configures the interface, writes its number to a file, and goes to the background.
fn start_pasta(
    program: &Path,
    place: &NamespaceFile,
    leases: &Leases,
) -> Result<Process, NetworkError> {
    let command = Command::new(program).args(pasta_arguments(&place.path, &place.pid_file));
    let (said, writer) = pipe().map_err(|source| start_error(program, source))?;
    let child = command
        .descriptor(1, writer.as_fd())
        .descriptor(2, writer.as_fd())
        .spawn()
        .map_err(|source| start_error(program, source))?;
    drop(writer);
    wait_for_success(program, &child, said)?;
    let pid = read_pid(&place.pid_file)?
        .ok_or_else(|| NetworkError::HelperSilent { program: display(program) })?;
    let handle = PidFd::open(pid).map_err(|source| start_error(program, source))?;
    let record = leases.record_helper(pid)?;
    Ok(Process::Pasta { handle, record })
}

fn pasta_arguments(namespace: &Path, pid_file: &Path) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--config-net", "--quiet", "--no-map-gw", "--no-netns-quit", "--mtu", MTU]
            .map(str::to_owned)
            .to_vec();
    // By default, ports that are listened on are mapped in both directions, the host's loopback
    // services into the container included.
    for direction in ["-t", "-u", "-T", "-U"] {
        arguments.extend([direction.to_owned(), "none".to_owned()]);
    }
    arguments.extend(["--dns-forward".to_owned(), PASTA_DNS.to_string()]);
    arguments.extend(["--pid".to_owned(), display(pid_file)]);
    arguments.extend(["--netns".to_owned(), display(namespace)]);
    arguments
}

/// `slirp4netns` stays our child, says on one pipe that it is ready, and ends with the other.
fn start_slirp(program: &Path, place: &NamespaceFile) -> Result<Process, NetworkError> {
    let failed = |source| start_error(program, source);
    let (said, writer) = pipe().map_err(failed)?;
    let (ready, ready_writer) = pipe().map_err(failed)?;
    let (exit_reader, exit) = pipe().map_err(failed)?;
    let child = Command::new(program)
        .args(slirp_arguments(&place.path))
        .descriptor(1, writer.as_fd())
        .descriptor(2, writer.as_fd())
        .descriptor(3, ready_writer.as_fd())
        .descriptor(4, exit_reader.as_fd())
        .spawn()
        .map_err(failed)?;
    drop((writer, ready_writer, exit_reader));
    if is_ready(&ready).map_err(failed)? {
        return Ok(Process::Slirp { child, exit });
    }
    // It has ended without being ready, or it hangs and is ended.
    drop(exit);
    wait_for_success(program, &child, said)?;
    Err(NetworkError::HelperSilent { program: display(program) })
}

fn slirp_arguments(namespace: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--configure",
        "--mtu",
        MTU,
        "--disable-host-loopback",
        "--ready-fd=3",
        "--exit-fd=4",
        "--netns-type=path",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend([display(namespace), "tap0".to_owned()]);
    arguments
}

/// Returns true once a byte was written to the pipe, false if it ends before or time runs out.
fn is_ready(pipe: &OwnedFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(START_MAX).map_err(io::Error::other)?;
    let mut waited = [PollFd::new(pipe, PollFlags::IN)];
    loop {
        match poll(&mut waited, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(rustix::io::read(pipe, &mut [0])? > 0)
}

/// Waits for the end of our child and returns what it said as an error, unless it succeeded.
fn wait_for_success(program: &Path, child: &Child, said: OwnedFd) -> Result<(), NetworkError> {
    let failed = |source| start_error(program, source);
    let ended = if child.handle.wait_end(Some(START_MAX)).map_err(failed)? {
        child.handle.wait().map_err(failed)?.ended
    } else {
        child.kill_and_wait().map_err(failed)?
    };
    if ended == Ended::Code(0) {
        return Ok(());
    }
    // A helper in the background would hold the pipe open, but it has failed before that.
    let mut text = Vec::new();
    File::from(said).take(SAID_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    let status = match ended {
        Ended::Code(code) => format!("exit code {code}"),
        Ended::Signal(signal) => format!("signal {signal}"),
    };
    let said = complaint(&String::from_utf8_lossy(&text));
    Err(NetworkError::HelperFailed { program: display(program), status, said })
}

/// Puts the lines of a complaint into one; `pasta` of 2023 also complains where there is no log.
fn complaint(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let kept: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.ends_with("bytes to syslog")).collect();
    if kept.is_empty() { "it did not say why".to_owned() } else { kept.join("; ") }
}

fn read_pid(path: &Path) -> Result<Option<u32>, IoError> {
    let bytes = file::read_limited(path, PID_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).trim().parse().ok())
}

fn start_error(program: &Path, source: io::Error) -> NetworkError {
    NetworkError::HelperStart { program: display(program), source }
}

#[cfg(test)]
mod tests {
    use corten_testkit::TempDir;
    use expect_test::expect;

    use super::*;

    /// The directory of the records when the caller's cannot be written.
    fn own_records(logins: &Path, shared: &Path) -> Result<PathBuf, NetworkError> {
        open_own_records(logins, shared, 1000).map(|leases| leases.directory().to_owned())
    }

    #[test]
    fn a_user_who_is_logged_in_has_the_records_there() {
        let (logins, shared) = (TempDir::new(), TempDir::new());
        file::create_dir(&logins.path().join("1000"), 0o700).unwrap();
        let found = own_records(logins.path(), shared.path()).unwrap();
        assert_eq!(found, logins.path().join("1000/corten/network"));
    }

    #[test]
    fn without_a_login_the_records_are_in_a_private_directory() {
        let (logins, shared) = (TempDir::new(), TempDir::new());
        let expected = shared.path().join("corten-1000/network");
        for _ in 0..2 {
            assert_eq!(own_records(logins.path(), shared.path()).unwrap(), expected);
        }
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_trusted() {
        let (logins, shared) = (TempDir::new(), TempDir::new());
        let own = shared.path().join("corten-1000");
        file::create_dir(&own, 0o700).unwrap();
        file::set_mode(&own, 0o777).unwrap();
        let error = own_records(logins.path(), shared.path()).unwrap_err();
        assert!(error.to_string().contains("someone else"), "{error}");
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_not_trusted() {
        let (logins, shared, other) = (TempDir::new(), TempDir::new(), TempDir::new());
        file::symlink(other.path(), &shared.path().join("corten-1000")).unwrap();
        assert!(own_records(logins.path(), shared.path()).is_err());
        assert_eq!(file::list_dir(other.path()).unwrap().len(), 0);
    }

    fn facts(pasta: bool, slirp: bool, tun: bool) -> HelperFacts {
        HelperFacts {
            pasta: pasta.then(|| PathBuf::from("/usr/bin/pasta")),
            slirp: slirp.then(|| PathBuf::from("/usr/bin/slirp4netns")),
            tun: (!tun).then(|| obstacle_of(rustix::io::Errno::ACCESS)),
        }
    }

    #[test]
    fn pasta_is_preferred() {
        let kind = |pasta, slirp| choose(&facts(pasta, slirp, true)).unwrap().kind;
        assert_eq!(kind(true, true), Kind::Pasta);
        assert_eq!(kind(true, false), Kind::Pasta);
        assert_eq!(kind(false, true), Kind::Slirp);
    }

    #[test]
    fn everything_in_the_way_is_told_with_what_to_do_about_it() {
        let told = |pasta, slirp, tun| {
            let obstacles = choose(&facts(pasta, slirp, tun)).unwrap_err();
            let error = NetworkError::RootlessUnavailable { obstacles };
            format!("{error}\n{}\n", error.hint().unwrap())
        };
        expect![[r"
            no network for a container without root: your user may not open `/dev/net/tun`: Permission denied (os error 13)
            let every user open the device, as most systems do: `sudo chmod 666 /dev/net/tun`; or use `--network host|none`
        "]]
        .assert_eq(&told(true, true, false));
        expect![[r"
            no network for a container without root: neither `pasta` (package `passt`) nor `slirp4netns` is installed
            install it: `sudo apt-get install passt`, or your system's like; or use `--network host|none`
        "]]
        .assert_eq(&told(false, false, true));
        expect![[r"
            no network for a container without root: your user may not open `/dev/net/tun`: Permission denied (os error 13); neither `pasta` (package `passt`) nor `slirp4netns` is installed
            let every user open the device, as most systems do: `sudo chmod 666 /dev/net/tun`; install it: `sudo apt-get install passt`, or your system's like; or use `--network host|none`
        "]]
        .assert_eq(&told(false, false, false));
    }

    #[test]
    fn a_device_that_is_not_there_is_not_one_that_is_refused() {
        assert_eq!(obstacle_of(rustix::io::Errno::NOENT), RootlessObstacle::NoDevice);
        // By the device rules of a container that this runs in: no mode of the file helps.
        let refused = obstacle_of(rustix::io::Errno::PERM);
        assert!(refused.remedy().contains("`--device /dev/net/tun`"));
    }

    #[test]
    fn no_helper_maps_ports_or_the_hosts_loopback() {
        let pasta = pasta_arguments(Path::new("/run/n"), Path::new("/run/p")).join(" ");
        assert_eq!(
            pasta,
            "--config-net --quiet --no-map-gw --no-netns-quit --mtu 65520 -t none -u none -T none \
             -U none --dns-forward 169.254.1.1 --pid /run/p --netns /run/n"
        );
        let slirp = slirp_arguments(Path::new("/run/n")).join(" ");
        assert_eq!(
            slirp,
            "--configure --mtu 65520 --disable-host-loopback --ready-fd=3 --exit-fd=4 \
             --netns-type=path /run/n tap0"
        );
    }

    #[test]
    fn a_complaint_is_one_line_without_the_noise() {
        let text = "Failed to send 46 bytes to syslog\nNo routable interface\n\nGiving up\n";
        assert_eq!(complaint(text), "No routable interface; Giving up");
        assert_eq!(complaint("\n"), "it did not say why");
    }

    #[test]
    fn a_helper_that_fails_is_quoted() {
        let program = Path::new("/bin/sh");
        let (said, writer) = pipe().unwrap();
        let child = Command::new(program)
            .args(["-c", "echo no luck >&2; exit 3"])
            .descriptor(2, writer.as_fd())
            .spawn()
            .unwrap();
        drop(writer);
        let error = wait_for_success(program, &child, said).unwrap_err();
        assert_eq!(error.to_string(), "`/bin/sh` gave up (exit code 3): no luck");
    }

    #[test]
    fn a_pipe_is_ready_with_a_byte_and_not_at_its_end() {
        let (reader, writer) = pipe().unwrap();
        rustix::io::write(&writer, b"1").unwrap();
        assert!(is_ready(&reader).unwrap());
        drop(writer);
        assert!(!is_ready(&reader).unwrap());
    }
}
