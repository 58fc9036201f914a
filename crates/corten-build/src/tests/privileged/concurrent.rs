//! Several builds and several stages at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use corten_testkit::{Need, require};

use crate::tests::world::{Pretender, Stored, World};
use crate::{RunOutcome, RunStep};

#[test]
fn independent_stages_run_at_the_same_time() {
    require!(Need::Root);
    let world = World::new();
    // Both commands wait for each other: one after the other they would wait for ever.
    let barrier = Arc::new(Barrier::new(2));
    *world.executor.hook.lock().unwrap() = None;
    let waiting = Arc::clone(&barrier);
    let executor = Waiting { barrier: waiting, inner: Pretender::default() };
    let options = world.options(
        "FROM base AS a\nRUN wait; write /a 1\nFROM base\nRUN wait; write /b 2\nCOPY --from=a /a /\n",
    );
    let bases = Stored(&world.store);
    crate::build(&options, &world.store, &bases, &executor, &world.reporter).unwrap();
}

struct Waiting {
    barrier: Arc<Barrier>,
    inner: Pretender,
}

impl crate::Executor for Waiting {
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(corten_diag::Stream, &[u8]),
    ) -> Result<RunOutcome, crate::ExecError> {
        if step.args.last().is_some_and(|command| command.starts_with("wait")) {
            self.barrier.wait();
        }
        self.inner.run(step, output)
    }
}

#[test]
fn two_builds_of_one_store_do_each_step_once() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    let count = AtomicU32::new(0);
    let text = "FROM base\nCOPY a /\nRUN write /x 1\nRUN write /y 2\n";
    let images: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // A handle of its own, as another process has.
                    let options = corten_store::StoreOptions::new(world.store.root());
                    let store = corten_store::Store::open(&options).unwrap();
                    let bases = Stored(&store);
                    let executor = Slow { count: &count, inner: Pretender::default() };
                    let options = world.options(text);
                    let reporter = corten_diag::Collect::default();
                    crate::build(&options, &store, &bases, &executor, &reporter).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(images.iter().all(|image| image.id == images[0].id));
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let left = corten_sys::file::list_dir(&world.store.root().join("lock")).unwrap();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("step")), "{left:?}");
}

struct Slow<'a> {
    count: &'a AtomicU32,
    inner: Pretender,
}

impl crate::Executor for Slow<'_> {
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(corten_diag::Stream, &[u8]),
    ) -> Result<RunOutcome, crate::ExecError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
        self.inner.run(step, output)
    }
}

#[test]
fn a_failure_stops_the_stages_beside_it() {
    require!(Need::Root);
    let world = World::new();
    *world.executor.hook.lock().unwrap() =
        Some(Arc::new(|step: &RunStep, _: &mut dyn FnMut(_, &[u8])| {
            if step.args.last().is_some_and(|command| command == "slow") {
                while !step.cancelled.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            RunOutcome::exited(0)
        }));
    let text = "FROM base AS a\nRUN slow\nRUN never\nFROM base\nRUN fail 1\nCOPY --from=a /x /\n";
    drop(world.try_build(text));
    assert!(!world.ran().contains(&"never".to_owned()));
}
