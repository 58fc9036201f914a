//! Networks from the command line, each test in a network namespace of its own that plays the host.

use std::path::Path;

use corten_sys::{file, namespace};
use corten_testkit::privilege::Need;
use corten_testkit::require;
use expect_test::expect;

use super::life::Containers;
use crate::world::with_further_programs;

const NEEDS: [Need; 3] = [Need::Root, Need::Overlay, Need::NetworkNamespaces];

/// Containers on a host that has no other network.
struct World {
    all: Containers,
}

impl World {
    fn new() -> Self {
        namespace::unshare(namespace::NETWORK).expect("a network namespace");
        Self { all: Containers(with_further_programs()) }
    }

    fn ok(&self, words: &[&str]) -> String {
        self.all.ok(words)
    }

    fn fails(&self, words: &[&str]) -> String {
        let output = self.all.0.run(words);
        assert_ne!(output.status.code(), Some(0), "{words:?}");
        output.stderr().to_owned()
    }

    /// Starts a container that does nothing for long.
    fn idle(&self, name: &str, flags: &[&str]) {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(flags);
        words.extend(["base", "sleep", "600"]);
        self.ok(&words);
    }

    /// The address that a container finds for a name, or nothing.
    fn resolved(&self, by: &str, name: &str) -> String {
        let output = self.all.0.run(&["exec", by, "getent", "ahostsv4", name]);
        output.stdout().split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Whether a container can connect to a port that nobody listens on: who is reached refuses at once.
    fn is_reached(&self, by: &str, address: &str) -> bool {
        let line = format!("exec 3<>/dev/tcp/{address}/9");
        let output = self.all.0.run(&["exec", by, "timeout", "1", "bash", "-c", &line]);
        output.stderr().contains("refused")
    }

    fn address(&self, name: &str) -> String {
        let format = "{{.NetworkSettings.IPAddress}}";
        self.ok(&["inspect", name, "--format", format]).trim().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The register of a namespace that is about to go.
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("own namespace");
        let own = own.to_string_lossy();
        let number: String = own.chars().filter(char::is_ascii_digit).collect();
        let ids = self.ok(&["ps", "--all", "--quiet", "--no-trunc"]);
        for id in ids.lines() {
            drop(self.all.0.run(&["rm", "--force", id]));
        }
        drop(file::remove_tree(Path::new(&format!("/run/corten/network-{number}"))));
    }
}

#[test]
fn containers_find_each_other_by_name_alias_and_id() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    let id = world.ok(&["network", "create", "web"]);
    assert_eq!(id.trim().len(), 64);
    world.idle("db", &["--network", "web", "--network-alias", "store"]);
    world.idle("app", &["--network", "name=web,alias=front"]);
    let address = world.address("db");
    let short = world.ok(&["ps", "--format", "{{.ID}} {{.Names}}"]);
    let short = short.lines().find_map(|line| line.strip_suffix(" db")).unwrap().to_owned();
    for name in ["db", "DB", "store", "db.web", &short] {
        assert_eq!(world.resolved("app", name), address, "{name}");
    }
    assert_eq!(world.resolved("db", "front"), world.address("app"));
    assert_eq!(world.resolved("app", "nobody"), "");
    assert_eq!(
        world.ok(&["exec", "app", "cat", "/etc/resolv.conf"]).lines().next(),
        Some("nameserver 127.0.0.11")
    );
    world.ok(&["rename", "db", "database"]);
    assert_eq!(world.resolved("app", "database"), address);
    assert_eq!(world.resolved("app", "db"), "");
    world.ok(&["stop", "-t", "0", "database"]);
    assert_eq!(world.resolved("app", "database"), "", "who does not run is not found");
    world.ok(&["start", "database"]);
    assert_eq!(world.resolved("app", "database"), world.address("database"));
}

#[test]
fn a_static_address_is_kept_over_stops_and_from_others() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "--subnet", "10.9.8.0/29", "web"]);
    world.idle("db", &["--network", "web", "--ip", "10.9.8.2"]);
    let refused =
        world.fails(&["run", "--rm", "--network", "web", "--ip", "10.9.8.2", "base", "true"]);
    assert!(refused.contains("is taken by the container `db`"), "{refused}");
    world.ok(&["stop", "-t", "0", "db"]);
    // Five are left, of which one is kept for it.
    for name in ["a", "b", "c", "d"] {
        world.idle(name, &["--network", "web"]);
        assert_ne!(world.address(name), "10.9.8.2");
    }
    let full = world.fails(&["run", "--rm", "--network", "web", "base", "true"]);
    assert!(full.contains("no address of 10.9.8.0/29 is free"), "{full}");
    world.ok(&["start", "db"]);
    assert_eq!(world.address("db"), "10.9.8.2");
}

#[test]
fn containers_come_and_go_while_they_run() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "web"]);
    world.ok(&["network", "create", "back"]);
    world.idle("db", &["--network", "back"]);
    world.idle("app", &["--network", "web"]);
    assert_eq!(world.resolved("app", "db"), "");
    world.ok(&["network", "connect", "--alias", "web-db", "web", "db"]);
    assert_ne!(world.resolved("app", "web-db"), "");
    let again = world.fails(&["network", "connect", "web", "db"]);
    assert!(again.contains("already"), "{again}");
    assert_eq!(world.all.field("db", "Networks"), "back,web");
    world.ok(&["restart", "-t", "0", "db"]);
    assert_ne!(world.resolved("app", "web-db"), "", "it stays after another start");
    world.ok(&["network", "disconnect", "web", "db"]);
    assert_eq!(world.resolved("app", "web-db"), "");
    let interfaces = world.ok(&["exec", "db", "ls", "/sys/class/net"]);
    assert_eq!(interfaces, "eth0\nlo\n");
    world.fails(&["network", "disconnect", "web", "db"]);
    world.ok(&["network", "disconnect", "--force", "web", "db"]);
}

#[test]
fn who_was_on_the_default_network_finds_names_once_it_is_on_another_one() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "web"]);
    world.idle("db", &["--network", "web"]);
    world.idle("plain", &["--dns", "192.0.2.53"]);
    assert_eq!(world.resolved("plain", "db"), "");
    world.ok(&["network", "connect", "web", "plain"]);
    assert_eq!(world.resolved("plain", "db"), world.address("db"));
    assert_ne!(world.resolved("db", "plain"), "");
    let resolver = world.ok(&["exec", "plain", "cat", "/etc/resolv.conf"]);
    assert!(resolver.starts_with("nameserver 127.0.0.11\n"), "{resolver}");
    world.ok(&["restart", "-t", "0", "plain"]);
    assert_eq!(world.resolved("plain", "db"), world.address("db"), "after another start too");
}

#[test]
fn a_network_of_another_container_is_shared_with_what_goes_with_it() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "web"]);
    world.idle("db", &["--network", "web", "--hostname", "box"]);
    let line = "cat /etc/hostname /etc/resolv.conf; ls /sys/class/net; getent ahostsv4 db";
    let said = world.ok(&["run", "--rm", "--network", "container:db", "base", "sh", "-c", line]);
    assert!(said.starts_with("box\nnameserver 127.0.0.11\n"), "{said}");
    assert!(said.contains("eth0\nlo\n") && said.contains(&world.address("db")), "{said}");
    for flags in [
        ["-p", "80:80"],
        ["--hostname", "x"],
        ["--dns", "192.0.2.1"],
        ["--add-host", "a:192.0.2.1"],
    ] {
        let mut words = vec!["run", "--rm", "--network", "container:db"];
        words.extend(flags);
        words.extend(["base", "true"]);
        let refused = world.fails(&words);
        assert!(refused.contains("has no meaning with `--network container:db`"), "{refused}");
    }
    world.idle("beside", &["--network", "container:db"]);
    world.ok(&["stop", "-t", "0", "db"]);
    let left = world.ok(&["exec", "beside", "ls", "/sys/class/net"]);
    assert_eq!(left, "lo\n", "its address is somebody else's from now on");
    let refused = world.fails(&["run", "--rm", "--network", "container:db", "base", "true"]);
    assert!(refused.contains("does not run"), "{refused}");
}

#[test]
fn names_of_hosts_and_servers_can_be_given() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "--subnet", "10.9.8.0/24", "web"]);
    let said = world.ok(&[
        "run",
        "--rm",
        "--network",
        "web",
        "--hostname",
        "box",
        "--add-host",
        "db:192.0.2.9",
        "--add-host",
        "host.docker.internal:host-gateway",
        "--dns-search",
        "corp.example",
        "--dns-option",
        "timeout:3",
        "base",
        "cat",
        "/etc/hosts",
        "/etc/resolv.conf",
    ]);
    expect![[r#"
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        10.9.8.2	box
        192.0.2.9	db
        10.9.8.1	host.docker.internal
        nameserver 127.0.0.11
        search corp.example
        options timeout:3 ndots:0
    "#]]
    .assert_eq(&said);
    let said = world.ok(&[
        "run",
        "--rm",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        ".",
        "--dns-option",
        "ndots:2",
        "base",
        "cat",
        "/etc/resolv.conf",
    ]);
    expect![[r#"
        nameserver 192.0.2.53
        options ndots:2
    "#]]
    .assert_eq(&said);
}

#[test]
fn published_ports_are_shown_and_a_conflict_names_the_container() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "web"]);
    world.idle("app", &["--network", "web", "-p", "8080:80", "-p", "127.0.0.1:5353:53/udp"]);
    assert_eq!(
        world.ok(&["port", "app"]),
        "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    );
    assert_eq!(world.ok(&["port", "app", "53/udp"]), "127.0.0.1:5353\n");
    world.fails(&["port", "app", "81"]);
    assert_eq!(
        world.all.field("app", "Ports"),
        "127.0.0.1:5353->53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    );
    let conflict =
        world.fails(&["run", "--rm", "--network", "web", "-p", "8080:1", "base", "true"]);
    assert!(conflict.contains("already in use by the container `app`"), "{conflict}");
    world.idle("all", &["--network", "web", "-P", "--expose", "7000-7001"]);
    assert_eq!(world.ok(&["port", "all"]).lines().count(), 4, "two ports, of IPv4 and of IPv6");
}

#[test]
fn networks_are_made_listed_and_removed() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "--internal", "--label", "team=data", "back"]);
    world.ok(&["network", "create", "--subnet", "10.9.8.0/24", "--ipv6", "-o", "mtu=1400", "web"]);
    world.all.0.check(
        &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Internal}} {{.IPv6}}"],
        &expect![[r#"
            exit: 0
            --- stdout
            bridge bridge false false
            host host false false
            none null false false
            back bridge true false
            web bridge false true
            --- stderr
        "#]],
    );
    assert_eq!(
        world.ok(&["network", "ls", "--filter", "label=team=data", "--format", "{{.Name}}"]),
        "back\n"
    );
    for (words, part) in [
        (vec!["network", "create", "web"], "there is a network `web` already"),
        (vec!["network", "create", "--driver", "overlay", "x"], "no network driver `overlay`"),
        (vec!["network", "create", "--subnet", "10.9.8.128/25", "x"], "overlaps `10.9.8.0/24`"),
        (vec!["network", "create", "host"], "stands for another one"),
        (vec!["network", "rm", "bridge"], "is always there"),
        (
            vec![
                "run",
                "--rm",
                "--network",
                "none",
                "--add-host",
                "h:host-gateway",
                "base",
                "true",
            ],
            "has no meaning with `--network none`",
        ),
        (vec!["network", "rm", "nobody"], "no network `nobody`"),
        (vec!["run", "--rm", "--network", "nobody", "base", "true"], "no network `nobody`"),
        (
            vec!["run", "--rm", "--ip", "10.9.8.7", "base", "true"],
            "on a network that you have made",
        ),
        (
            vec!["run", "--rm", "--network", "host", "--network", "web", "base", "true"],
            "cannot be combined",
        ),
    ] {
        let said = world.fails(&words);
        assert!(said.contains(part), "{words:?}: {said}");
    }
    world.idle("app", &["--network", "web", "--network", "back"]);
    let used = world.fails(&["network", "rm", "web"]);
    assert!(used.contains("the network `web` has containers: app"), "{used}");
    assert_eq!(world.ok(&["network", "prune"]), "");
    world.ok(&["rm", "--force", "app"]);
    assert_eq!(world.ok(&["network", "rm", "web"]), "web\n");
    assert_eq!(world.ok(&["network", "prune"]), "back\n");
    let links = file::list_dir(Path::new("/sys/class/net")).unwrap();
    assert!(!links.iter().any(|link| link.to_string_lossy().starts_with("ctn-")), "{links:?}");
}

#[test]
fn what_a_killed_monitor_leaves_is_healed_by_the_next_command() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let world = World::new();
    world.ok(&["network", "create", "--subnet", "10.9.8.0/30", "web"]);
    world.idle("db", &["--network", "web", "-p", "8080:80"]);
    let pid = world.ok(&["inspect", "db", "--format", "{{.State.Pid}}"]);
    let pid = corten_sys::process::PidFd::open(pid.trim().parse().unwrap()).unwrap();
    pid.kill().unwrap();
    world.all.until("its end", |all| all.field("db", "State") == "exited");
    world.all.until("the end of its ports", |all| all.field("db", "Ports").is_empty());
    // Its address is the only one, and its port is free.
    world.idle("next", &["--network", "web", "-p", "8080:80"]);
    assert_eq!(world.address("next"), "10.9.8.2");
    world.ok(&["rm", "--force", "next"]);
    world.ok(&["start", "db"]);
    assert_eq!(world.address("db"), "10.9.8.2");
}

#[test]
fn networks_are_apart_and_internal_ones_closed() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2], Need::Program("timeout"));
    let world = World::new();
    for words in [&["web"][..], &["back"], &["--internal", "inner"]] {
        let mut all = vec!["network", "create"];
        all.extend(words);
        world.ok(&all);
    }
    world.idle("one", &["--network", "web"]);
    world.idle("two", &["--network", "web"]);
    world.idle("other", &["--network", "back"]);
    world.idle("in", &["--network", "inner"]);
    world.idle("in2", &["--network", "inner"]);
    let reached = |by: &str, to: &str| world.is_reached(by, &world.address(to));
    assert!(reached("one", "two") && reached("in", "in2"));
    assert!(!reached("one", "other") && !reached("other", "one"));
    assert!(!reached("one", "in") && !reached("in", "one"));
}
