//! Builds a golden base into a store, for trying things by hand:
//! `cargo run -p corten-base --example base_build -- python-3.11 --root DIR`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to whoever runs it"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corten_base::{BaseOptions, HttpTransport, Lock, Mirrors, build, recipe, sources};
use corten_diag::{Event, Reporter};
use corten_http::HttpOptions;
use corten_store::{Store, StoreOptions};
use corten_sys::clock::{Clock as _, SystemClock};

struct Lines;

impl Reporter for Lines {
    fn report(&self, event: Event) {
        match event {
            Event::Progress { .. } => {}
            other => eprintln!("{other:?}"),
        }
    }
}

fn main() -> ExitCode {
    let started = SystemClock.monotonic();
    match run() {
        Ok(()) => {
            println!("{:.3} s", SystemClock.monotonic().saturating_sub(started).as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(error.as_ref());
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
            if let Some(hint) = error
                .downcast_ref::<corten_base::BaseError>()
                .and_then(corten_base::BaseError::hint)
            {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut name = "debian-12".to_owned();
    let mut root = PathBuf::from("corten-base-store");
    let mut architecture = "amd64".to_owned();
    let (mut mirrors, mut offline, mut lock, mut lock_out, mut ca) =
        (Vec::new(), false, None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--root" => root = value()?.into(),
            "--architecture" => architecture = value()?,
            "--mirror" => mirrors.push(value()?),
            "--ca" => ca = Some(PathBuf::from(value()?)),
            "--lock" => lock = Some(PathBuf::from(value()?)),
            "--lock-out" => lock_out = Some(PathBuf::from(value()?)),
            "--offline" => offline = true,
            other => other.clone_into(&mut name),
        }
    }
    let mirrors = if mirrors.is_empty() {
        Mirrors::from_sources(&sources::from_apt(Path::new("/etc/apt"))?)
    } else {
        Mirrors::parse(mirrors.iter().map(String::as_str))?
    };
    let transport = HttpTransport::new(&HttpOptions { ca_bundle: ca, ..HttpOptions::default() })?;
    let mut options = BaseOptions::new(mirrors, &architecture, &transport, &SystemClock);
    options.offline = offline;
    options.lock = lock
        .map(|path| Ok::<_, Box<dyn std::error::Error>>(Lock::parse(&std::fs::read(path)?)?))
        .transpose()?;
    let store = Store::open(&StoreOptions::new(root))?;
    let recipe = recipe::find(&name)?;
    let (image, lock) = build(&recipe, &options, &store, &Lines)?;
    for reference in recipe.references() {
        store.tag(&reference, image.id)?;
    }
    if let Some(path) = lock_out {
        corten_sys::file::write_atomic(&path, lock.to_text().as_bytes(), 0o644)?;
    }
    println!("image {}\nmanifest {}\nlock {}", image.id, image.manifest, lock.pins.digest());
    for layer in &image.layers {
        println!("layer {} {} bytes {}", layer.diff_id, layer.tar_bytes, layer.path.display());
    }
    println!("{} packages", lock.pins.packages.len());
    Ok(())
}
