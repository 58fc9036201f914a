//! The two helper programs, from inside a user namespace as an ordinary user's `corten` has it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;

use corten_sys::command::find_program;
use corten_sys::file;
use corten_testkit::{Need, TempDir, require};

use super::{
    Container, HOST, IMPATIENCE, OUTSIDE, World, attach, detach, echo, ipv4, ports, seen_by_echo,
};
use crate::network::{Network, NetworkRequest};

const HELPER: &str = "CORTEN_TEST_NETWORK_HELPER";

/// Where programs are, whatever the test was started with.
const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Plays the host and the outside, and starts this program again without rights over them.
#[expect(clippy::disallowed_methods, reason = "starts the test program itself")]
fn check(helper: &'static str) {
    let world = World::new();
    let service = echo(&world.outside, OUTSIDE, 7, 1);
    let status = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact"])
        .arg(concat!(module_path!(), "::process_without_root").split_once("::").unwrap().1)
        .env(HELPER, helper)
        .status()
        .unwrap();
    assert!(status.success());
    service.join().unwrap();
}

#[test]
fn pasta_connects_a_container_without_root() {
    require!(Need::Root, Need::NetworkNamespaces, Need::UserNamespaces, Need::Program("pasta"),);
    check("pasta");
}

#[test]
fn slirp4netns_connects_a_container_without_root() {
    require!(
        Need::Root,
        Need::NetworkNamespaces,
        Need::UserNamespaces,
        Need::Program("slirp4netns"),
    );
    check("slirp4netns");
}

/// Not a test: what [`check`] starts.
#[test]
#[ignore = "is started by the tests above"]
#[expect(clippy::disallowed_methods, reason = "the test's own process talks to itself this way")]
fn process_without_root() {
    let Ok(helper) = std::env::var(HELPER) else { return };
    let programs = TempDir::new();
    let program = find_program(&helper, PROGRAMS.as_ref()).unwrap();
    file::symlink(&program, &programs.path().join(&helper)).unwrap();
    let state = TempDir::new();
    let container = Container::new("rootless");
    let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, 8099)).unwrap();
    let attachment = attach(&NetworkRequest {
        container_id: container.id,
        name: container.id,
        pid: 0,
        netns: container.netns.as_fd(),
        network: Network::Default,
        endpoints: &[],
        reserved: &[],
        nameservers: &[],
        ports: &ports::parse_all(&["127.0.0.1:8080:80"]).unwrap(),
        rootless: true,
        state_dir: state.path(),
        search_path: programs.path().as_os_str(),
    })
    .unwrap();
    assert_eq!(container.run(|| seen_by_echo((OUTSIDE, 7))).unwrap(), IpAddr::V4(HOST));

    // The host's loopback services, by every address that could lead to them.
    for address in [Ipv4Addr::LOCALHOST, HOST, Ipv4Addr::new(10, 0, 2, 2)] {
        let connect = || TcpStream::connect_timeout(&(address, 8099).into(), IMPATIENCE);
        assert!(container.run(connect).is_err(), "{address}");
    }
    drop(secret);

    let service = echo(&container.netns, Ipv4Addr::UNSPECIFIED, 80, 1);
    let seen = seen_by_echo((Ipv4Addr::LOCALHOST, 8080)).unwrap();
    assert_eq!(seen, IpAddr::V4(ipv4(&attachment)), "never 127.0.0.1");
    service.join().unwrap();

    assert!(is_named_by_a_program(state.path()));
    detach(attachment);
    assert!(!is_named_by_a_program(state.path()), "the helper has ended");
    let left = ["helpers", "leases", "containers"].map(|part| names(&state.path().join(part)));
    assert_eq!(left, [0, 0, 0]);
    assert_eq!(names(state.path()), 4, "the lock and three empty directories");
    writeln!(std::io::stdout(), "done with {helper}").unwrap();
}

fn names(directory: &Path) -> usize {
    file::list_dir(directory).unwrap().len()
}

/// Returns true if another program was given a path in the directory.
fn is_named_by_a_program(directory: &Path) -> bool {
    let path = directory.as_os_str().as_encoded_bytes();
    file::list_dir(Path::new("/proc")).unwrap().iter().any(|pid| {
        let arguments = Path::new("/proc").join(pid).join("cmdline");
        let arguments = file::read_limited(&arguments, 1 << 20).unwrap_or_default();
        arguments.windows(path.len()).any(|window| window == path)
    })
}
