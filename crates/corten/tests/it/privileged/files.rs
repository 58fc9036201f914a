//! What a container has made of its image's files: `diff`, `commit`, `export`, and `import`.

use corten_testkit::privilege::Need;
use corten_testkit::require;
use expect_test::expect;

use super::life::Containers;
use crate::world::with_root_files;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// An image with something to change, and a container that has changed it.
const CHANGES: &str = "mkdir -p /new/deep; echo x >/new/f; ln /new/f /new/g; ln -s f /new/l; \
    rm /srv/gone; echo y >>/srv/grown; touch -d @5 /srv/touched; rm -r /srv/replaced; mkdir /srv/replaced; \
    touch /srv/replaced/b; rm -r /srv/flat; touch /srv/flat; rm /srv/file; mkdir /srv/file; \
    touch /srv/file/in; chmod 700 /srv/mode; echo v >/data/v; mkdir /a-b /a; touch /a/x";

fn changed() -> Containers {
    let all = Containers::new();
    all.0.write(
        "app/Dockerfile",
        "FROM base\nRUN mkdir -p /srv/replaced /srv/flat /srv/same && cd /srv && \
         touch gone grown touched file mode replaced/a replaced/b flat/x same/f\nENV A=1\n",
    );
    all.ok(&["build", "-q", "--network=none", "-t", "app", "app"]);
    all.ok(&[
        "run",
        "--network=none",
        "--name=one",
        "-v",
        "kept:/data",
        "-e",
        "B=2",
        "-e",
        "HOME=/x",
        "app",
        "sh",
        "-c",
        CHANGES,
    ]);
    all
}

#[test]
fn changes_are_listed_as_docker_lists_them() {
    require!(NEEDS[0], NEEDS[1]);
    let all = changed();
    all.0.check(
        &["diff", "one"],
        &expect![[r#"
        exit: 0
        --- stdout
        A /a
        A /a/x
        A /a-b
        A /data
        A /new
        A /new/deep
        A /new/f
        A /new/g
        A /new/l
        C /srv
        C /srv/file
        A /srv/file/in
        C /srv/flat
        D /srv/gone
        C /srv/grown
        C /srv/mode
        C /srv/replaced
        D /srv/replaced/a
        C /srv/replaced/b
        C /srv/touched
        --- stderr
    "#]],
    );
    let listed = all.ok(&["diff", "--json", "one"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("it is JSON");
    assert_eq!(listed["schema"], "corten.diff/1");
    assert_eq!(listed["changes"][0], serde_json::json!({ "kind": "A", "path": "/a" }));
    all.ok(&["create", "--name=two", "--network=none", "app"]);
    assert_eq!(all.ok(&["diff", "two"]), "", "nothing has been done in it");
}

#[test]
fn an_image_of_a_container_has_its_files_and_its_words() {
    require!(NEEDS[0], NEEDS[1]);
    let all = changed();
    let id = all.ok(&[
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "CMD [\"cat\", \"/new/g\"]",
        "-c",
        "ENV C=$B-3",
        "one",
        "made:1",
    ]);
    assert_eq!(all.ok(&["run", "--rm", "--network=none", "made:1"]), "x\n");
    let line = "echo $A $B $C; ls /srv /srv/replaced /srv/file /data /new; ls -ld /srv/mode";
    let seen = all.ok(&["run", "--rm", "--network=none", "made:1", "sh", "-c", line]);
    expect![[r#"
        1 2 2-3
        /data:

        /new:
        deep
        f
        g
        l

        /srv:
        file
        flat
        grown
        mode
        replaced
        same
        touched

        /srv/file:
        in

        /srv/replaced:
        b
        -rwx------ 1 root root 0 Jan  1  1970 /srv/mode
    "#]]
    .assert_eq(&seen);
    let image = all.ok(&["inspect", "made:1"]);
    let image: serde_json::Value = serde_json::from_str(&image).expect("it is JSON");
    assert_eq!(image[0]["Id"], id.trim());
    assert_eq!(image[0]["Author"], "me");
    assert_eq!(
        image[0]["Config"]["Env"],
        serde_json::json!([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "A=1",
            "B=2",
            "HOME=/x",
            "C=2-3"
        ])
    );
    let history = image[0]["History"].as_array().expect("it is a list");
    let last = history.last().expect("it has entries");
    assert_eq!((&last["comment"], &last["author"]), (&"why".into(), &"me".into()));
    all.ok(&["system", "fsck"]);
}

#[test]
fn the_same_changes_are_the_same_image() {
    require!(NEEDS[0], NEEDS[1]);
    let all = changed();
    let commit = || {
        let command = all.0.command(["commit", "one"]).env("SOURCE_DATE_EPOCH", "1700000000");
        command.run().success().stdout().to_owned()
    };
    let one = commit();
    assert_eq!(one, commit());
    all.ok(&["rename", "one", "first"]);
    all.ok(&[
        "run",
        "--network=none",
        "--name=one",
        "-v",
        "kept:/data",
        "-e",
        "B=2",
        "-e",
        "HOME=/x",
        "app",
        "sh",
        "-c",
        CHANGES,
    ]);
    assert_eq!(one, commit(), "another container that has done the same");
    all.ok(&["create", "--name=none", "--network=none", "base"]);
    all.ok(&["commit", "none", "nothing:1"]);
    let image = all.ok(&["inspect", "nothing:1"]);
    let image: serde_json::Value = serde_json::from_str(&image).expect("it is JSON");
    assert_eq!(
        image[0]["RootFS"]["Layers"].as_array().map(Vec::len),
        Some(1),
        "nothing was changed"
    );
}

#[test]
fn what_is_exported_can_be_imported() {
    require!(NEEDS[0], NEEDS[1]);
    let all = changed();
    all.ok(&["export", "-o", "one.tar", "one"]);
    let first = all.ok(&["import", "-c", "CMD [\"cat\", \"/new/l\"]", "one.tar", "all:1"]);
    assert_eq!(all.ok(&["run", "--rm", "--network=none", "all:1"]), "x\n");
    let image = all.ok(&["inspect", "all:1"]);
    let image: serde_json::Value = serde_json::from_str(&image).expect("it is JSON");
    assert_eq!(image[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    assert_eq!(image[0]["History"][0]["comment"], "Imported from one.tar");
    assert_eq!(first.len(), "sha256:".len() + 65);
    let bytes = corten_sys::file::read(&all.0.work_dir().join("one.tar")).expect("it was written");
    let again = all.0.command(["import", "-", "all:2"]).stdin(bytes.clone()).run().success();
    assert!(again.stdout().starts_with("sha256:"));
    all.ok(&["create", "--name=two", "--network=none", "all:2", "true"]);
    all.ok(&["export", "-o", "two.tar", "two"]);
    let second = corten_sys::file::read(&all.0.work_dir().join("two.tar")).expect("it was written");
    assert!(bytes == second, "the tar of the same files is the same tar");
}

#[test]
fn a_hostile_tar_is_no_image() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let refused = |bytes: &[u8]| {
        let output = all.0.command(["import", "-", "bad"]).stdin(bytes.to_vec()).run().code(2);
        output.stderr().to_owned()
    };
    let error = refused(b"no tar at all, but long enough to be looked at as one would be");
    assert!(error.contains("the tar ends too early"), "{error}");
    let mut escape = vec![0; 512];
    escape[..11].copy_from_slice(b"../../../up");
    escape[100..108].copy_from_slice(b"0000644\0");
    escape[124..136].copy_from_slice(b"00000000000\0");
    escape[156] = b'0';
    escape[257..265].copy_from_slice(b"ustar\x0000");
    escape[148..156].copy_from_slice(b"        ");
    let sum: u32 = escape.iter().map(|byte| u32::from(*byte)).sum();
    escape[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    escape.extend([0; 1024]);
    let error = refused(&escape);
    assert!(error.contains("has a `..`"), "{error}");
    let error = all.0.run(&["import", "-c", "RUN x", "nothing", "bad"]).code(2);
    assert!(error.stderr().contains("nothing"), "{}", error.stderr());
    assert!(!all.ok(&["images"]).contains("bad"));
}

#[test]
fn an_ordinary_user_makes_images_of_containers() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let context = with_root_files().as_user(54_321, 54_321);
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    let line = "mkdir /new; echo x >/new/f; rm /bin/cat";
    context.run(&["run", "--network=none", "--name=one", "base", "sh", "-c", line]).success();
    let changes = context.run(&["diff", "one"]).success();
    let changes = changes.stdout();
    assert!(changes.contains("/bin/cat\n") && changes.contains("A /new/f\n"), "{changes}");
    context.run(&["commit", "one", "made"]).success();
    let line = "ls /new; ls /bin/cat";
    let seen = context.run(&["run", "--rm", "--network=none", "made", "sh", "-c", line]);
    assert_eq!(seen.stdout(), "f\n", "{}", seen.stderr());
    context.run(&["export", "-o", "one.tar", "one"]).success();
    context.run(&["import", "one.tar", "flat"]).success();
}
