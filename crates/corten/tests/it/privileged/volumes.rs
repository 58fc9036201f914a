//! Volumes: what outlives containers, and how it begins.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// Runs a shell line in a container that goes away.
fn shell(all: &Containers, flags: &[&str], line: &str) -> String {
    let mut words = vec!["run", "--rm", "--network=none"];
    words.extend(flags);
    words.extend(["base", "sh", "-c", line]);
    all.ok(&words)
}

#[test]
fn a_volume_keeps_what_containers_write() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    shell(&all, &["-v", "models:/m"], "echo one >/m/a; chown 1000:1000 /m/a");
    let again = ["--mount", "type=volume,source=models,target=/other"];
    assert_eq!(
        shell(&all, &again, "cat /other/a; ls -ln /other/a | head -c 10"),
        "one\n-rw-r--r--"
    );
    let owner = "cat /proc/self/mountinfo >/dev/null; ls -n /m/a";
    assert!(shell(&all, &["-v", "models:/m", "-u", "1000"], owner).contains(" 1000 1000 "));
    assert_eq!(all.ok(&["volume", "ls", "--quiet"]), "models\n");
    let refused = all.0.run(&[
        "run",
        "--rm",
        "--network=none",
        "-v",
        "models:/m:ro",
        "base",
        "touch",
        "/m/b",
    ]);
    assert_ne!(refused.status.code(), Some(0), "it is read-only");
    assert_eq!(all.ok(&["volume", "rm", "models"]), "models\n");
    assert_eq!(all.ok(&["volume", "ls", "--quiet"]), "");
}

#[test]
fn a_new_volume_begins_with_what_the_image_has_there() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.0.write(
        "app/Dockerfile",
        "FROM base\nRUN mkdir -p /srv/data/deep && echo x >/srv/data/deep/f && \
         ln /srv/data/deep/f /srv/data/g && ln -s deep/f /srv/data/l && chmod 750 /srv/data && \
         chown -R 7:8 /srv/data && ln -s /srv/data /link\n",
    );
    all.ok(&["build", "-q", "--network=none", "-t", "app", "app"]);
    let run = |flags: &[&str], line: &str| {
        let mut words = vec!["run", "--rm", "--network=none"];
        words.extend(flags);
        words.extend(["app", "sh", "-c", line]);
        all.ok(&words)
    };
    let look = "cd $0; cat deep/f g l; ls -ldn . | head -c 10; ls -ln g | head -c 20";
    let of = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let seen = |path: &str, flags: &[&str]| of(run(flags, &look.replace("$0", path)));
    let original = seen("/srv/data", &[]);
    assert_eq!(seen("/srv/data", &["-v", "one:/srv/data"]), original);
    assert_eq!(seen("/link", &["-v", "two:/link"]), original, "links of the image are followed");
    all.ok(&["volume", "create", "three"]);
    assert_eq!(seen("/srv/data", &["-v", "three:/srv/data"]), original, "one that nobody has used");
    assert_eq!(run(&["-v", "four:/srv/data:nocopy"], "ls /srv/data"), "");
    run(&["-v", "one:/srv/data"], "rm -r /srv/data/*");
    assert_eq!(run(&["-v", "one:/srv/data"], "ls /srv/data"), "", "it is filled once");
}

#[test]
fn volumes_without_a_name_go_with_their_container() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.0.write("app/Dockerfile", "FROM base\nRUN mkdir /data && echo x >/data/x\nVOLUME /data\n");
    all.ok(&["build", "-q", "--network=none", "-t", "app", "app"]);
    assert_eq!(all.ok(&["run", "--rm", "--network=none", "app", "cat", "/data/x"]), "x\n");
    assert_eq!(all.ok(&["volume", "ls", "-q"]), "");
    let kept =
        ["run", "--network=none", "--name=one", "app", "sh", "-c", "echo y >>/data/x; cat /data/x"];
    assert_eq!(all.ok(&kept), "x\ny\n");
    all.ok(&["start", "one"]);
    all.ok(&["wait", "one"]);
    assert_eq!(all.ok(&["logs", "one"]), "x\ny\nx\ny\ny\n");
    let name = all.ok(&["volume", "ls", "-q"]);
    let refused = all.0.run(&["volume", "rm", name.trim()]);
    assert!(refused.stderr().contains("belongs to the container `one`"), "{}", refused.stderr());
    assert_eq!(all.ok(&["volume", "prune"]), "", "a container has it");
    all.ok(&["rm", "one"]);
    assert_eq!(all.ok(&["volume", "prune"]), name);
    all.ok(&["create", "--network=none", "--name=two", "app"]);
    all.ok(&["rm", "--volumes", "two"]);
    assert_eq!(all.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn volumes_are_listed_described_and_pruned() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    assert_eq!(all.ok(&["volume", "create", "--label", "team=data", "one"]), "one\n");
    assert_eq!(all.ok(&["volume", "create", "one"]), "one\n", "it is there");
    let described = all.ok(&["volume", "inspect", "one"]);
    let described: serde_json::Value = serde_json::from_str(&described).expect("it is JSON");
    assert_eq!(described[0]["Labels"]["team"], "data");
    assert_eq!(all.ok(&["volume", "prune"]), "", "it has a name");
    assert_eq!(all.ok(&["volume", "prune", "--all"]), "one\n");
    let missing = all.0.run(&["volume", "rm", "one"]);
    assert!(missing.stderr().contains("no volume `one`"), "{}", missing.stderr());
    let hostile = all.0.run(&["run", "--rm", "-v", "a/../b:/x", "base", "true"]);
    assert!(hostile.stderr().contains("cannot be the name of a volume"), "{}", hostile.stderr());
    let hostile = all.0.run(&["volume", "create", "../x"]);
    assert_eq!(hostile.status.code(), Some(2), "{}", hostile.snapshot());
}

#[test]
fn mounts_within_mounts_come_after_them() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let flags = ["-v", "inner:/a/b", "--tmpfs", "/a", "-v", "deep:/a/b/c"];
    let line = "touch /a/b/c/f /a/b/g /a/h; ls /a /a/b /a/b/c";
    assert_eq!(shell(&all, &flags, line), "/a:\nb\nh\n\n/a/b:\nc\ng\n\n/a/b/c:\nf\n");
}
