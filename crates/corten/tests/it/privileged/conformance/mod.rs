//! Dockerfiles of many kinds, built here and compared with what BuildKit made of them.
//!
//! `tests/conformance/TOPIC.txt` has the cases, `TOPIC.recorded` what BuildKit gave: the configuration,
//! the history, and every file that the base does not have. Where a docker is installed, its BuildKit
//! builds the cases beside us as well: see [`live`].
//!
//! Recording needs a daemon and is done by hand:
//! `CORTEN_RECORD_WITH=DOCKER cargo test -p corten --test it -- --test-threads=1 conformance`, where
//! DOCKER is the client or a script that calls it. Cases that need a younger frontend than the daemon's
//! are recorded with the image that `CORTEN_RECORD_FRONTEND` names.
//!
//! Times are compared where a case sets them, in archives and files of stages: other times of ours
//! are fixed, and theirs are those of the build.

mod cases;
mod described;
mod live;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::world::with_base;
use cases::Case;
use described::Described;

/// What is recorded of a build that fails.
const FAILURE: &str = "the build fails\n";

#[test]
fn archives() {
    check("archives");
}

#[test]
fn copying_files() {
    check("copy");
}

#[test]
fn copying_over_and_between() {
    check("copying");
}

#[test]
fn names_and_patterns_of_sources() {
    check("sources");
}

#[test]
fn the_configuration() {
    check("config");
}

#[test]
fn the_language() {
    check("language");
}

#[test]
fn arguments_and_variables() {
    check("variables");
}

#[test]
fn running_commands() {
    check("run");
}

#[test]
fn steps_with_mounts_and_here_documents() {
    check("steps");
}

#[test]
fn stages() {
    check("stages");
}

#[test]
fn files_that_are_ignored() {
    check("ignore");
}

#[test]
fn files_that_patterns_hide() {
    check("hiding");
}

#[test]
fn mistakes() {
    check("mistakes");
}

#[expect(clippy::disallowed_methods, reason = "recording is asked for by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Builds all cases of a topic and compares them, or records what they should be.
fn check(topic: &str) {
    require!(Need::Root, Need::Overlay);
    let cases = cases::parse(&cases::read(&format!("{topic}.txt")));
    let context = with_base();
    let base = Described::read(&context, "base", None);
    if let Some(docker) = variable("CORTEN_RECORD_WITH") {
        return record(&TestContext::new(PathBuf::from(docker)), &context, &cases, topic);
    }
    let expected = results(&cases::read(&format!("{topic}.recorded")));
    let mut wrong = String::new();
    for case in &cases {
        let found = build_here(&context, &base, case, "here");
        let expected = expected.get(&case.name).map_or("it was not recorded\n", String::as_str);
        match &case.deviation {
            None if found != expected => {
                write!(wrong, "=== {}\nexpected:\n{expected}found:\n{found}\n", case.name)
                    .expect("a string takes everything");
            }
            Some(reason) if found == expected => {
                write!(wrong, "=== {}\nno longer deviates: {reason}\n", case.name)
                    .expect("a string takes everything");
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Builds a case with the program under test. `tag` is a name that no other build uses meanwhile.
fn build_here(context: &TestContext, base: &Described, case: &Case, tag: &str) -> String {
    let mut words = vec!["build", "--quiet", "--network", "none", "--tag", tag];
    let own = case.lay_out(context, tag);
    words.extend(own.iter().map(String::as_str));
    let output = context.run(&words);
    if output.status.code() != Some(0) {
        return FAILURE.to_owned();
    }
    Described::read(context, tag, Some(base)).beyond(base)
}

/// Gives a docker the base that the cases begin with.
fn load_base(docker: &TestContext, context: &TestContext) {
    context.run(&["save", "--format", "docker-archive", "-o", "base.tar", "base"]).success();
    let archive = context.work_dir().join("base.tar").to_string_lossy().into_owned();
    docker.run(&["load", "--input", &archive]).success();
}

/// Builds a case with docker.
fn build_there(
    docker: &TestContext,
    context: &TestContext,
    base: &Described,
    case: &Case,
    (tag, flags): (&str, &[&str]),
) -> String {
    let mut words = vec!["build", "--quiet", "--network", "none", "--tag", tag];
    words.extend(flags);
    let own = case.lay_out(context, tag);
    words.extend(own.iter().map(String::as_str));
    let output = docker.run(&words);
    if output.status.code() != Some(0) {
        return FAILURE.to_owned();
    }
    let saved = docker.run(&["save", tag]).success();
    Described::from_docker(&saved.stdout, Some(base)).beyond(base)
}

fn record(docker: &TestContext, context: &TestContext, cases: &[Case], topic: &str) {
    let version = docker.run(&["version", "--format", "{{.Server.Version}}"]).success();
    let mut text = format!("What docker {} made of each case.\n", version.stdout().trim());
    load_base(docker, context);
    let base = Described::from_docker(&docker.run(&["save", "base"]).success().stdout, None);
    let frontend = variable("CORTEN_RECORD_FRONTEND");
    let syntax = frontend.map(|image| format!("--build-arg=BUILDKIT_SYNTAX={image}"));
    for case in cases {
        let mut flags: Vec<&str> = Vec::new();
        if let Some(since) = &case.since {
            let message = format!("`{}` needs a frontend of {since}", case.name);
            flags.push(syntax.as_deref().expect(&message));
        }
        let result = build_there(docker, context, &base, case, (topic, &flags));
        write!(text, "=== {}\n{result}", case.name).expect("a string takes everything");
    }
    let path = cases::folder().join(format!("{topic}.recorded"));
    file::write(&path, text.as_bytes()).expect("the results can be written");
}

/// Splits recorded results by their cases.
fn results(text: &str) -> BTreeMap<String, String> {
    let mut results: BTreeMap<String, String> = BTreeMap::new();
    let marked = format!("\n{text}");
    for part in marked.split("\n=== ").skip(1) {
        let (name, body) = part.split_once('\n').unwrap_or((part, ""));
        let body = if body.is_empty() || body.ends_with('\n') {
            body.to_owned()
        } else {
            format!("{body}\n")
        };
        results.insert(name.to_owned(), body);
    }
    results
}
