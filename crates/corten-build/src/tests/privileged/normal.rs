//! What differs from run to run is made the same.

use std::path::Path;
use std::sync::Arc;

use corten_store::Image;
use corten_sys::clock::Timestamp;
use corten_sys::file;
use corten_testkit::{Need, require};

use crate::tests::world::{CREATED, World, put};
use crate::{RunOutcome, RunStep};

/// The time of the step, later than any epoch.
const NOW: u32 = 2_000_000_000;

const RANDOM_ID: &str = "0123456789abcdef0123456789abcdef\n";

/// Byte code of Python 3.11: magic, flags, time, size, code.
fn put_code(root: &Path, name: &str, flags: u8) {
    let path = root.join(format!("app/__pycache__/{name}.cpython-311.pyc"));
    file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
    let header = [0xa7, 0x0d, b'\r', b'\n', flags, 0, 0, 0];
    file::write(&path, &[&header[..], &NOW.to_le_bytes(), b"sizecode"].concat()).unwrap();
}

/// A world whose steps leave what tools usually leave.
fn careless() -> World {
    let world = World::new();
    *world.executor.hook.lock().unwrap() =
        Some(Arc::new(|step: &RunStep, _: &mut dyn FnMut(_, &[u8])| {
            put(&step.upper, "app/new.py", "source");
            let source = step.upper.join("app/new.py");
            file::set_times(&source, Timestamp::from_seconds(i64::from(NOW))).unwrap();
            put(&step.upper, "app/old.py", "its code is of another time");
            put_code(&step.upper, "new", 0);
            put_code(&step.upper, "old", 0);
            put_code(&step.upper, "gone", 0);
            put_code(&step.upper, "hashed", 1);
            put(&step.upper, "etc/machine-id", RANDOM_ID);
            put(&step.upper, "var/log/apt/term.log", "noise");
            put(&step.upper, "opt/env/conda-meta/history", "==> 2033-05-18 03:33:20 <==\n+a-1-0\n");
            put(&step.upper, "opt/env/conda-meta/created_at", "2000000000.25");
            RunOutcome::exited(0)
        }));
    world
}

fn written(image: &Image, path: &str) -> Option<Vec<u8>> {
    let path = image.layers.last().unwrap().path.join(path);
    file::exists(&path).unwrap().then(|| file::read(&path).unwrap())
}

fn time(image: &Image, name: &str) -> i64 {
    let code = written(image, &format!("app/__pycache__/{name}.cpython-311.pyc")).unwrap();
    i64::from(u32::from_le_bytes(code[8..12].try_into().unwrap()))
}

#[test]
fn byte_code_follows_its_source() {
    require!(Need::Root);
    let world = careless();
    let image = world.build("FROM base\nRUN x\n");
    assert_eq!(time(&image, "new"), CREATED);
    assert_eq!(time(&image, "old"), i64::from(NOW), "it was not valid before");
    assert_eq!(time(&image, "gone"), i64::from(NOW), "it has no source");
    let hashed = "these four bytes are a part of a hash";
    assert_eq!(time(&image, "hashed"), i64::from(NOW), "{hashed}");
}

#[test]
fn conda_made_its_environment_at_the_epoch() {
    require!(Need::Root);
    let world = careless();
    let image = world.build("FROM base\nRUN x\n");
    let text = |name: &str| {
        let bytes = written(&image, &format!("opt/env/conda-meta/{name}")).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(text("created_at"), format!("{CREATED}.0"));
    let time = corten_oci::time::rfc3339(CREATED).replace('T', " ");
    assert_eq!(text("history"), format!("==> {} <==\n+a-1-0\n", time.trim_end_matches('Z')));
}

#[test]
fn a_machine_id_is_made_from_the_step() {
    require!(Need::Root);
    let world = careless();
    let id = |text: &str| written(&world.build(text), "etc/machine-id").unwrap();
    let one = id("FROM base\nRUN x\n");
    let form = |id: &[u8]| id.len() == 33 && id[..32].iter().all(u8::is_ascii_hexdigit);
    assert!(form(&one) && one[32] == b'\n' && one != RANDOM_ID.as_bytes());
    assert_eq!(one, id("FROM base\nRUN x\n"));
    assert_ne!(one, id("FROM base\nRUN y\n"));
}

#[test]
fn files_stay_as_they_were_written_if_that_is_wanted() {
    require!(Need::Root);
    let world = careless();
    let mut options = world.options("FROM base\nRUN x\n");
    let usual = world.build_with(&options).unwrap();
    assert_eq!(written(&usual, "var/log/apt/term.log"), None);

    options.run.normalise = false;
    let image = world.build_with(&options).unwrap();
    assert_eq!(time(&image, "new"), i64::from(NOW));
    assert_eq!(written(&image, "etc/machine-id").as_deref(), Some(RANDOM_ID.as_bytes()));
    assert_eq!(written(&image, "var/log/apt/term.log").as_deref(), Some(&b"noise"[..]));
}
