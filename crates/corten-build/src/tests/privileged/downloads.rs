//! The cache of downloads: who is led to it, what it changes, and what it must not change.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use corten_diag::Event;
use corten_record::{Upstream, UpstreamError, UpstreamRequest, UpstreamResponse};
use corten_sys::file;
use corten_testkit::{Need, require};

use crate::tests::world::{World, put};
use crate::{BuildOptions, RunOutcome, RunStep, StepMountKind};

const WHEEL: &str = "http://mirror.test/idna-3.7-py3-none-any.whl";

/// A server that has one wheel, and counts.
#[derive(Default)]
struct Mirror {
    asked: AtomicUsize,
    is_down: bool,
}

impl Upstream for Mirror {
    fn send(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamResponse, UpstreamError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_down {
            return Err(UpstreamError { message: "it is down".to_owned() });
        }
        assert_eq!((request.method, request.url), ("GET", WHEEL));
        let headers = [("content-length", "5"), ("cache-control", "max-age=600")];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(UpstreamResponse {
            status: 200,
            headers: headers.map(owned).to_vec(),
            body: Box::new(&b"wheel"[..]),
        })
    }
}

fn options(world: &World, mirror: &Arc<Mirror>, text: &str) -> BuildOptions {
    let bundle = world.temp.path().join("ca.pem");
    file::write(&bundle, b"of the host\n").unwrap();
    let mut options = world.options(text);
    options.no_cache = true;
    options.run.auto_cache = true;
    options.run.ca_certificates = Some(bundle);
    options.remotes.downloads = Some(mirror.clone());
    options
}

/// What `pip install` does: it asks the proxy that it is told of, else the server.
fn pip(step: &RunStep) -> RunOutcome {
    let Some(downloads) = &step.downloads else {
        put(&step.upper, "idna", "wheel");
        return RunOutcome::exited(0);
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    downloads.recorder.serve(listener).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "Host: mirror.test\r\nUser-Agent: pip/24\r\nConnection: close\r\n\r\n";
    write!(stream, "GET {WHEEL} HTTP/1.1\r\n{head}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    if !answer.starts_with("HTTP/1.1 200") {
        return RunOutcome::exited(1);
    }
    put(&step.upper, "idna", answer.split_once("\r\n\r\n").unwrap().1);
    RunOutcome::exited(0)
}

/// A world in whose steps `pip` runs, and the steps that were seen.
fn world() -> (World, Arc<Mutex<Vec<RunStep>>>) {
    let world = World::new();
    let seen: Arc<Mutex<Vec<RunStep>>> = Arc::default();
    let into = Arc::clone(&seen);
    let hook = move |step: &RunStep, _: &mut dyn FnMut(_, &[u8])| {
        into.lock().unwrap().push(step.clone());
        pip(step)
    };
    *world.executor.hook.lock().unwrap() = Some(Arc::new(hook));
    (world, seen)
}

#[test]
fn a_wheel_is_fetched_once_and_the_image_is_the_same_with_and_without() {
    require!(Need::Root);
    let (world, seen) = world();
    let mirror = Arc::new(Mirror::default());
    let mut options = options(&world, &mirror, "FROM base\nRUN pip install idna");
    let first = world.build_with(&options).unwrap();
    let second = world.build_with(&options).unwrap();
    assert_eq!(mirror.asked.load(Ordering::Relaxed), 1);
    options.run.auto_cache = false;
    let without = world.build_with(&options).unwrap();
    assert_eq!((first.id, second.id), (without.id, without.id));
    let led: Vec<bool> = seen.lock().unwrap().iter().map(|s| s.downloads.is_some()).collect();
    assert_eq!(led, [true, true, false]);
    // The key is the same as well.
    options.no_cache = false;
    options.run.auto_cache = true;
    world.build_with(&options).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn a_step_that_fails_with_trouble_in_the_cache_is_done_again_without() {
    require!(Need::Root);
    let (world, seen) = world();
    let mirror = Arc::new(Mirror { is_down: true, ..Mirror::default() });
    let options = options(&world, &mirror, "FROM base\nRUN pip install idna");
    world.build_with(&options).unwrap();
    let led: Vec<bool> = seen.lock().unwrap().iter().map(|s| s.downloads.is_some()).collect();
    assert_eq!(led, [true, false]);
    let is_notice = |event: &Event| matches!(event, Event::Notice(text) if text.contains("again"));
    assert_eq!(world.reporter.take().iter().filter(|event| is_notice(event)).count(), 1);
}

#[test]
fn only_the_tools_of_a_step_are_led_and_only_where_nobody_objects() {
    require!(Need::Root);
    let (world, seen) = world();
    *world.executor.hook.lock().unwrap() = Some(Arc::new({
        let seen = Arc::clone(&seen);
        move |step: &RunStep, _: &mut dyn FnMut(_, &[u8])| {
            seen.lock().unwrap().push(step.clone());
            RunOutcome::exited(0)
        }
    }));
    let names = |text: &str, change: &dyn Fn(&mut BuildOptions)| {
        let mut options = options(&world, &Arc::default(), &format!("FROM base\n{text}"));
        change(&mut options);
        world.build_with(&options).unwrap();
        let step = seen.lock().unwrap().pop().unwrap();
        let downloads = step.downloads?;
        let env: BTreeMap<String, String> = downloads.env.into_iter().collect();
        let mounts = downloads.mounts.iter().map(|mount| {
            assert!(matches!(mount.kind, StepMountKind::Bind { readonly: true, .. }));
            mount.target.display().to_string()
        });
        Some((env.into_keys().collect::<Vec<_>>().join(" "), mounts.collect::<Vec<_>>().join(" ")))
    };
    let same = |_: &mut BuildOptions| ();
    let owned = |env: &str, mounts: &str| Some((env.to_owned(), mounts.to_owned()));
    let (bundle, apt) = ("/dev/corten/downloads.crt", "/dev/corten/apt.conf");
    assert_eq!(
        names("RUN pip install x", &same),
        owned("PIP_CERT PIP_PROXY REQUESTS_CA_BUNDLE", bundle)
    );
    assert_eq!(names("RUN apt-get update", &same), owned("", &format!("{bundle} {apt}")));
    assert_eq!(names("RUN make", &same), None);
    assert_eq!(names("ENV PIP_PROXY=http://p\nRUN pip install x", &same), None);
    assert_eq!(names("RUN --network=none pip install x", &same), None);
    assert_eq!(names("COPY <<EOF /etc/pip.conf\nproxy = x\nEOF\nRUN pip install x", &same), None);
    let proxy = |options: &mut BuildOptions| {
        options.build_args.insert("HTTP_PROXY".to_owned(), "http://p".to_owned());
    };
    assert_eq!(names("RUN pip install x", &proxy), None);
    let hosts = |options: &mut BuildOptions| {
        options.run.hosts = vec![("mirror.test".to_owned(), [10, 0, 0, 1].into())];
    };
    assert_eq!(names("RUN pip install x", &hosts), None);
    let none = |options: &mut BuildOptions| options.run.ca_certificates = None;
    assert_eq!(names("RUN pip install x", &none), None);
    let network = |options: &mut BuildOptions| options.run.network = crate::Network::Host;
    assert_eq!(names("RUN pip install x", &network), None);
}
