//! Caches and images that go to a registry and come back.

use corten_registry::{Client, ClientOptions};
use corten_testkit::registry::Behaviour;
use corten_testkit::wire::reply;
use corten_testkit::{FakeRegistry, Need, Wire, require};

use crate::cache::inline_annotation;
use crate::output::{self, ImageOutput, Output, Push, Request};
use crate::solve::Target;
use crate::tests::world::World;

const STAGES: &str = "FROM base AS tools\nRUN write /tool made\nFROM base\nCOPY a.txt /\n\
                      COPY --from=tools /tool /bin/\nRUN write /done yes\n";

fn world() -> World {
    let world = World::new();
    world.write("a.txt", "a");
    world
}

fn push(world: &World, target: &Target, name: &str, inline: bool) -> corten_oci::digest::Digest {
    let image = ImageOutput { store: false, push: Some(Push::default()), ..ImageOutput::default() };
    let request = Request {
        outputs: vec![Output::Image(image)],
        names: vec![name.parse().unwrap()],
        annotations: inline.then(|| inline_annotation(target)).into_iter().collect(),
        client: Client::new(ClientOptions::default()),
    };
    let mut stdout = Vec::new();
    let targets = std::slice::from_ref(target);
    let written =
        output::write(&world.store, targets, &request, &mut stdout, &world.reporter).unwrap();
    written[0].descriptor.as_ref().unwrap().digest
}

fn sent(registry: &FakeRegistry) -> usize {
    registry.take_log().iter().filter(|line| line.starts_with("POST")).count()
}

#[test]
fn a_cache_goes_through_a_registry_and_is_sent_once() {
    require!(Need::Root);
    let registry = FakeRegistry::start(Behaviour::default());
    let name = format!("{}/team/app:cache", registry.host);
    let to = format!("type=registry,ref={name},mode=max");
    let first = world();
    let (made, exported) = first.build_cached(&first.options(STAGES), &[&name], &[&to]);
    assert_eq!((exported[0].steps, exported[0].layers), (5, 4));
    assert_eq!(first.warnings(), [format!("there is no cache at `{name}`")]);
    // The layers and the document.
    assert_eq!(sent(&registry), 4 + 1);
    let second = world();
    let (found, exported) = second.build_cached(&second.options(STAGES), &[&name], &[&to]);
    assert!(second.ran().is_empty());
    assert_eq!(found.id(), made.id());
    assert_eq!((exported[0].steps, exported[0].new_bytes), (5, 0));
    assert_eq!(sent(&registry), 0);
}

#[test]
fn an_image_that_is_pushed_again_is_not_sent_again() {
    require!(Need::Root);
    let registry = FakeRegistry::start(Behaviour::default());
    let name = format!("{}/team/app:1", registry.host);
    let world = world();
    let (target, _) = world.build_cached(&world.options(STAGES), &[], &[]);
    let digest = push(&world, &target, &name, false);
    assert_eq!(sent(&registry), target.layers.len() + 1);
    assert_eq!(push(&world, &target, &name, false), digest);
    let log = registry.take_log();
    assert!(log.iter().all(|line| !line.starts_with("POST")), "{log:?}");
    // The same bytes come from another store.
    let other = self::world();
    let (target, _) = other.build_cached(&other.options(STAGES), &[], &[]);
    assert_eq!(push(&other, &target, &name, false), digest);
    assert_eq!(sent(&registry), 0);
}

#[test]
fn an_image_carries_the_steps_of_its_own_layers() {
    require!(Need::Root);
    let registry = FakeRegistry::start(Behaviour::default());
    let name = format!("{}/team/app:1", registry.host);
    let world = world();
    let (target, _) = world.build_cached(&world.options(STAGES), &[], &[]);
    push(&world, &target, &name, true);
    let fresh = self::world();
    let (found, _) = fresh.build_cached(&fresh.options(STAGES), &[&name], &[]);
    assert_eq!(found.id(), target.id());
    assert!(fresh.ran().is_empty());
    // Without records it is an image and no cache.
    push(&world, &target, &name, false);
    let fresh = self::world();
    fresh.build_cached(&fresh.options(STAGES), &[&name], &[]);
    assert_eq!(fresh.ran(), ["write /tool made", "write /done yes"]);
    let warnings = fresh.warnings();
    assert!(warnings[0].contains("it is no cache of this program"), "{warnings:?}");
}

#[test]
fn a_registry_that_is_not_there_or_lies_is_a_miss() {
    require!(Need::Root);
    let registry = FakeRegistry::start(Behaviour::default());
    let name = format!("{}/team/app:cache", registry.host);
    let first = world();
    let to = format!("type=registry,ref={name}");
    first.build_cached(&first.options("FROM base\nRUN write /a 1\n"), &[], &[&to]);
    for behaviour in [
        Behaviour { corrupt: true, ..Behaviour::default() },
        Behaviour { token: true, ..Behaviour::default() },
        Behaviour { basic: true, ..Behaviour::default() },
    ] {
        registry.behave(behaviour);
        let fresh = self::world();
        fresh.build_cached(&fresh.options("FROM base\nRUN write /a 1\n"), &[&name], &[]);
        assert_eq!(fresh.ran(), ["write /a 1"]);
        assert_eq!(fresh.warnings().len(), 1);
    }
}

#[test]
fn a_manifest_that_no_builder_wrote_is_a_miss() {
    require!(Need::Root);
    let deep = "[".repeat(1 << 20);
    let many = "{},".repeat(100_000);
    let layers = format!("{{\"schemaVersion\":2,\"layers\":[{many}{{}}]}}");
    let index = "{\"schemaVersion\":2,\"manifests\":[]}".to_owned();
    let number = "{\"schemaVersion\":2,\"config\":{\"size\":-1}}".to_owned();
    let html = "<html>log in here</html>".to_owned();
    for text in [deep, layers, number, html, index, String::new()] {
        let kind = if text.contains("manifests") { "index" } else { "manifest" };
        let kind = format!("Content-Type: application/vnd.oci.image.{kind}.v1+json\n");
        let bytes = text.clone();
        let registry = Wire::start(move |_, _| reply(200, &kind, bytes.as_bytes()));
        let name = format!("{}/team/app:cache", registry.host);
        let fresh = world();
        fresh.build_cached(&fresh.options("FROM base\nRUN write /a 1\n"), &[&name], &[]);
        assert_eq!(fresh.ran(), ["write /a 1"]);
        let warnings = fresh.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].len() < 500, "{}", warnings[0].len());
        // The manifest alone was asked for.
        assert_eq!(registry.log().len(), 1);
    }
}
