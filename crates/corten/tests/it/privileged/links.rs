//! Caches that uv makes hard links from.

use std::time::Duration;

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::world::{with_base, with_root_files};

/// Does with files what uv does: unpacks into its cache, moves that into place there, and links each
/// file into the environment. Says which names it fetched, and which it had to copy.
const UV: &str = r#"#!/bin/sh
shift 2
cache=${UV_CACHE_DIR:-/root/.cache/uv}
mkdir -p "$cache/archive" "${VENV:=/venv}" || exit 1
for name in "$@"; do
    if [ ! -d "$cache/archive/$name" ]; then
        mkdir "$cache/.tmp-$name" "$cache/.tmp-$name/deep" || exit 1
        echo "library $name" >"$cache/.tmp-$name/lib"
        echo "program $name" >"$cache/.tmp-$name/deep/program"
        chmod 755 "$cache/.tmp-$name/deep/program"
        mv "$cache/.tmp-$name" "$cache/archive/$name" || exit 1
        echo "fetched $name"
    fi
    mkdir -p "$VENV/$name/deep"
    for file in lib deep/program; do
        rm -f "$VENV/$name/$file"
        if ! ln "$cache/archive/$name/$file" "$VENV/$name/$file" 2>/dev/null; then
            cp "$cache/archive/$name/$file" "$VENV/$name/$file" || exit 1
            echo "copied $name/$file"
        fi
    done
done
echo "$*" >"$cache/last"
"#;

const CACHE: &str = "--mount=type=cache,target=/root/.cache/uv";

/// What a step that is not uv's alone is told by.
const NOT_ALONE: &str = "cat /dev/null";

fn with_uv() -> TestContext {
    add_uv(with_base())
}

fn add_uv(context: TestContext) -> TestContext {
    context.write("uv", UV);
    context.write(
        "Containerfile",
        "FROM base\nCOPY --chmod=755 uv /bin/uv\nRUN mkdir -p /opt/c/uv /opt/l\n",
    );
    context
        .run(&["build", "-q", "--network=none", "-f", "Containerfile", "-t", "uv", "."])
        .success();
    context
}

/// Builds and returns what the steps said and the layers.
fn build(context: &TestContext, dockerfile: &str, epoch: i64) -> (String, String) {
    context.write("Dockerfile", dockerfile);
    let epoch = format!("SOURCE_DATE_EPOCH={epoch}");
    let arguments =
        ["build", "--no-cache", "--network=none", "--build-arg", &epoch, "-t", "app", "."];
    let built = context.run(&arguments).success();
    // The number of the step, the time, and what it wrote.
    let said = |line: &str| {
        let text = line.splitn(3, ' ').nth(2)?;
        let verb = text.split(' ').next()?;
        ["fetched", "copied", "saw"].contains(&verb).then(|| text.to_owned())
    };
    let said: Vec<String> = built.stderr().lines().filter_map(said).collect();
    let layers = context.run(&["inspect", "-f", "{{json .RootFS}}", "app"]).success();
    (said.join("; "), layers.stdout().to_owned())
}

/// The same step with the cache as a mount, which no other step uses.
fn as_mount(dockerfile: &str) -> String {
    dockerfile.replace("type=cache,", "type=cache,sharing=private,")
}

#[test]
fn files_are_linked_and_the_layer_does_not_depend_on_the_cache() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    let text = format!("FROM uv\nRUN {CACHE} uv pip install a b\n");
    let later = 1_600_000_000;
    let (said, expected) = build(&context, &as_mount(&text), 1000);
    assert_eq!(
        said,
        "fetched a; copied a/lib; copied a/deep/program; fetched b; copied b/lib; copied b/deep/program"
    );
    let (said, expected_later) = build(&context, &as_mount(&text), later);
    assert!(said.starts_with("copied a/lib"), "{said}");
    assert_ne!(expected, expected_later);

    assert_eq!(build(&context, &text, 1000), ("fetched a; fetched b".to_owned(), expected.clone()));
    assert_eq!(build(&context, &text, 1000), (String::new(), expected.clone()));
    assert_eq!(build(&context, &text, later), (String::new(), expected_later.clone()));
    assert_eq!(build(&context, &text, 1000), (String::new(), expected));
    // An epoch after everything in the cache came there.
    std::thread::sleep(Duration::from_millis(1100));
    let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is right").as_secs();
    let now = i64::try_from(now).expect("the clock is right");
    let (_, warm) = build(&context, &text, now);
    let (_, mounted) = build(&context, &as_mount(&text), now);
    assert_eq!(warm, mounted);
    context.run(&["system", "fsck"]).success();
}

#[test]
fn a_layer_has_nothing_of_where_the_cache_was() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    for (number, text) in [
        // The image has nothing there, parents with other rights, files in the way.
        "FROM uv\nRUN CACHE uv pip install a",
        "FROM uv\nRUN mkdir -p /root/.cache && chmod 700 /root/.cache\nRUN CACHE uv pip install a",
        "FROM uv\nRUN mkdir -p /root/.cache/uv/archive && echo x >/root/.cache/uv/archive/a\nRUN CACHE uv pip install a",
        "FROM uv\nRUN mkdir -p /root/.cache-x /var/c && ln -s /var/c /root/.cache\nRUN CACHE uv pip install a",
        "FROM uv\nRUN mkdir -p /root && chmod 755 /root\nUSER 1000\nRUN CACHE,uid=1000 VENV=/tmp/v uv pip install a",
        // The step does more around it.
        "FROM uv\nRUN CACHE uv pip install a && mkdir -p /root/.cache/other /root/.cache-l",
        "FROM uv\nRUN mkdir -p /root/.cache\nRUN CACHE uv pip install a && mkdir -p /root/.cache-l/x",
        "FROM uv\nRUN CACHE VENV=/root/.cache/venv uv pip install a",
        "FROM uv\nRUN CACHE mkdir /root/.cache-x && rm -rf /root/.cache-x && uv pip install a",
        // Two environments, which are not to have files in common.
        "FROM uv\nRUN CACHE uv pip install a && VENV=/other uv pip install a",
        // Two caches.
        "FROM uv\nRUN CACHE --mount=type=cache,target=/root/.cache-two uv pip install a && UV_CACHE_DIR=/root/.cache-two uv pip install b",
        "FROM uv\nRUN CACHE,sharing=locked uv pip install a",
        "FROM uv\nRUN CACHE --mount=type=secret,id=s,env=S uv pip install a",
        "FROM uv\nENV UV_LINK_MODE=hardlink\nRUN CACHE [\"uv\", \"pip\", \"install\", \"a\"]",
        "FROM uv\nRUN CACHE <<END\nset -e\nuv pip install a\nEND",
        "FROM uv\nWORKDIR /root/.cache/uv\nRUN CACHE uv pip install a",
        // Directories of the image that are older than the epoch.
        "FROM uv\nRUN CACHE,target=/opt/c/uv UV_CACHE_DIR=/opt/c/uv uv pip install a && mkdir /opt/l/x",
        "FROM uv\nRUN CACHE,target=/opt/c/new UV_CACHE_DIR=/opt/c/new uv pip install a && mkdir /opt/l/x",
        "FROM uv\nRUN CACHE,target=/opt/n/uv UV_CACHE_DIR=/opt/n/uv uv pip install a && mkdir /opt/l/x",
        "FROM uv\nRUN CACHE,target=/opt/n/uv mkdir /opt/l/x && uv pip list",
        "FROM uv\nRUN CACHE,target=/opt/c/uv UV_CACHE_DIR=/opt/c/uv uv pip install a && mkdir /opt/c/x",
        // Nothing is written to the cache.
        "FROM uv\nRUN CACHE mkdir -p /root/.cache-l && uv pip list",
    ]
    .iter()
    .enumerate()
    {
        let text = text.replace("RUN CACHE", &format!("RUN {CACHE},id=n{number}"));
        let mounted = as_mount(&text.replace("sharing=locked", "readonly=false"));
        let (said, expected) = build(&context, &mounted, 1000);
        assert!(said.contains("copied") || text.contains("pip list"), "{text}: {said}");
        for state in ["cold", "warm"] {
            let (said, layers) = build(&context, &text, 1000);
            assert!(!said.contains("copied"), "{text}, {state}: {said}");
            assert_eq!(layers, expected, "{text}, {state}");
        }
    }
}

#[test]
fn a_step_that_could_change_the_cache_through_a_link_gets_a_mount() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    let linked = format!("FROM uv\nRUN {CACHE} uv pip install a\n");
    build(&context, &linked, 1000);
    for command in ["chown -R 7:7 /venv", "echo x >>/venv/a/lib", NOT_ALONE] {
        let text = format!("FROM uv\nRUN {CACHE} uv pip install a && {command}\n");
        let (said, _) = build(&context, &text, 1000);
        assert_eq!(said, "copied a/lib; copied a/deep/program", "{command}");
    }
    let text = format!("FROM uv\nENV UV_LINK_MODE=copy\nRUN {CACHE} uv pip install a\n");
    assert_eq!(build(&context, &text, 1000).0, "copied a/lib; copied a/deep/program");
    let text = "FROM uv\nRUN CACHE uv pip install a b\nRUN CACHE ls /root/.cache/uv/archive | while read x; do echo saw $x; done\n";
    let (said, _) = build(&context, &text.replace("CACHE", CACHE), 1000);
    assert_eq!(said, "fetched b; saw a; saw b");
    // What is mounted elsewhere, only to read, or for one step alone.
    for options in
        ["target=/else", "target=/root/.cache/uv,readonly", "target=/root/.cache/uv,id=r,readonly"]
    {
        let text = format!(
            "FROM uv\nRUN --mount=type=cache,id=/root/.cache/uv,{options} UV_CACHE_DIR=/else uv pip list\n"
        );
        build(&context, &text, 1000);
    }
    let elsewhere = "FROM uv\nRUN --mount=type=cache,id=/root/.cache/uv,target=/else UV_CACHE_DIR=/else uv pip install a\n";
    assert_eq!(build(&context, elsewhere, 1000).0, "", "it is linked from another place too");
    assert_eq!(build(&context, &linked, 1000).0, "");
}

#[test]
fn a_cache_is_emptied_by_a_step_that_removes_it() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    let plain = build(&context, "FROM uv\nRUN echo >/x\n", 1000).1;
    for path in
        ["/root/.cache/uv/*", "/root/.cache/uv", "/root/.cache", "/root/.cache/uv/archive/a"]
    {
        build(&context, &format!("FROM uv\nRUN {CACHE} uv pip install a\n"), 1000);
        let text = format!("FROM uv\nRUN {CACHE} uv pip list && rm -rf {path}\nRUN echo >/x\n");
        let (_, layers) = build(&context, &text, 1000);
        let last = |layers: &str| layers.rsplit('"').nth(1).map(str::to_owned);
        assert_eq!(last(&layers), last(&plain));
        let text = format!("FROM uv\nRUN {CACHE} rm -rf {path} && uv pip install a\n");
        let (said, _) = build(&context, &text, 1000);
        assert_eq!(said, "fetched a", "{path}");
    }
}

#[test]
fn steps_share_a_cache_at_the_same_time() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    let stage = |names: &str| format!("RUN {CACHE} uv pip install {names}\n");
    let text = format!(
        "FROM uv AS one\n{}FROM uv AS two\n{}FROM uv AS three\nRUN {CACHE} uv pip install d && {NOT_ALONE}\nFROM uv\nCOPY --from=one /venv /v1\nCOPY --from=two /venv /v2\nCOPY --from=three /venv /v3\n",
        stage("a b"),
        stage("b c"),
    );
    for _ in 0..5 {
        build(&context, &text, 1000);
    }
    let (said, _) = build(&context, &format!("FROM uv\n{}", stage("a b c")), 1000);
    assert_eq!(said, "", "everything is in the cache");
    let (_, layers) = build(&context, &text, 1000);
    let (_, mounted) = build(&context, &as_mount(&text), 1000);
    assert_eq!(layers, mounted);
}

#[test]
fn a_build_with_linked_caches_may_be_killed_at_any_time() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    let text =
        format!("FROM uv\nRUN {CACHE} uv pip install a b c\nRUN {CACHE} uv pip install c d\n");
    let (_, expected) = build(&context, &as_mount(&text), 1000);
    let arguments =
        ["build", "-q", "--no-cache", "--network=none", "--build-arg=SOURCE_DATE_EPOCH=1000", "."];
    for point in 0..16 {
        let running = context.command(arguments).start();
        std::thread::sleep(Duration::from_millis(20 * point));
        running.signal("KILL");
        drop(running.wait());
        if point % 4 == 3 {
            assert_eq!(build(&context, &text, 1000).1, expected, "at point {point}");
            context.run(&["system", "prune", "--all"]).success();
            add_base(&context);
        }
    }
    assert_eq!(build(&context, &text, 1000).1, expected);
    context.run(&["system", "fsck"]).success();
}

fn add_base(context: &TestContext) {
    context.run(&["build", "--quiet", "-t", "base", "base"]).success();
    context
        .run(&["build", "-q", "--network=none", "-f", "Containerfile", "-t", "uv", "."])
        .success();
}

#[test]
fn a_failed_step_leaves_what_it_fetched() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    context.write("Dockerfile", format!("FROM uv\nRUN {CACHE} uv pip install a && exit 3\n"));
    let failed = context.run(&["build", "--network=none", "."]);
    assert_eq!(failed.status.code(), Some(2));
    let (said, _) = build(&context, &format!("FROM uv\nRUN {CACHE} uv pip install a b\n"), 1000);
    assert_eq!(said, "fetched b");
}

#[test]
fn a_linked_cache_is_counted_carried_and_pruned() {
    require!(Need::Root, Need::Overlay);
    let context = with_uv();
    let text = format!("FROM uv\nRUN {CACHE} uv pip install a b\n");
    build(&context, &text, 1000);
    let used = context.run(&["system", "df"]).success();
    assert!(used.stdout().contains("ache mounts"), "{}", used.stdout());
    context
        .run(&["build", "-q", "--network=none", "--cache-to=type=local,dest=carried,mode=max", "."])
        .success();

    let other = with_uv();
    other.write("Dockerfile", text.replace("a b", "b a"));
    let from = context.work_dir().join("carried");
    let from = format!("--cache-from=type=local,src={}", from.display());
    let built = other.run(&["build", "--network=none", &from, "."]).success();
    assert!(!built.stderr().contains("fetched"), "{}", built.stderr());
    assert!(!built.stderr().contains("copied"), "{}", built.stderr());

    let caches = context.root_dir().join("caches");
    let names = |suffix: &str| {
        let names = corten_sys::file::list_dir(&caches).expect("there are caches");
        names.iter().filter(|name| name.to_string_lossy().ends_with(suffix)).count()
    };
    build(&context, &text, 1000);
    assert_eq!(names(".linked"), 1);
    context.run(&["system", "prune", "--all"]).success();
    assert_eq!(names(".linked"), 0);
    assert_eq!(names(""), names(".lock"));
}

#[test]
fn an_ordinary_user_has_links_too() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let context = with_root_files().as_user(54_321, 54_321);
    context.run(&["build", "-q", "-t", "base", "base"]).success();
    let context = add_uv(context);
    let text = format!("FROM uv\nRUN {CACHE} uv pip install a b\n");
    let (_, expected) = build(&context, &as_mount(&text), 1000);
    assert_eq!(build(&context, &text, 1000), ("fetched a; fetched b".to_owned(), expected.clone()));
    assert_eq!(build(&context, &text, 1000), (String::new(), expected));
    context.run(&["system", "prune", "--all"]).success();
}
