use std::collections::BTreeMap;

use corten_oci::image::Index;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_sys::file;

use super::{Scratch, commit, config};
use crate::{
    Found, GcPolicy, Image, ImageIndex, NewMember, Problem, Repair, Store, StoreError, TagTarget,
};

/// Removes everything that nothing needs.
const ALL: GcPolicy = GcPolicy {
    keep_unused_steps: false,
    keep_untagged_images: false,
    keep_younger_seconds: None,
    keep_bytes: None,
};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn platform(architecture: &str) -> Platform {
    Platform::new("linux", architecture, None)
}

/// An image for a processor; `text` tells one from another.
fn image_for(store: &Store, architecture: &str, text: &str) -> Image {
    let layers = [commit(store, &[("for", architecture), ("text", text)])];
    let config = corten_oci::image::ImageConfig {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        ..config(&layers)
    };
    store.put_image(&config, &layers, &BTreeMap::new()).unwrap()
}

fn put(store: &Store, images: &[&Image]) -> ImageIndex {
    let members: Vec<NewMember> = images
        .iter()
        .map(|image| NewMember { image: (*image).clone(), annotations: BTreeMap::new() })
        .collect();
    store.put_index(&members, &BTreeMap::new()).unwrap()
}

#[test]
fn a_name_of_an_index_gives_the_image_of_the_wanted_platform() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (arm64, s390x) = (image_for(&store, "arm64", ""), image_for(&store, "s390x", ""));
    let index = put(&store, &[&arm64, &s390x]);
    assert_eq!(put(&store, &[&arm64, &s390x]).digest, index.digest, "the same again");
    store.tag(&reference("app:1"), TagTarget::Index(index.digest)).unwrap();
    for text in ["app:1", &index.digest.to_string(), &index.digest.hex()[..8]] {
        assert_eq!(store.find(text).unwrap(), Some(Found::Index(index.clone())), "{text}");
        let found = store.resolve_for(text, &platform("s390x")).unwrap();
        assert_eq!(found, Some(s390x.clone()), "{text}");
    }
    let pinned = format!("app@{}", arm64.manifest);
    assert_eq!(store.resolve_for(&pinned, &platform("s390x")).unwrap(), Some(arm64));
    let pinned = format!("app@{}", index.digest);
    assert_eq!(store.find(&pinned).unwrap(), Some(Found::Index(index)));
    let error = store.resolve_for("app:1", &platform("riscv64")).unwrap_err();
    let expected = "the image is not there for `linux/riscv64`, only for linux/arm64, linux/s390x";
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("--platform"));
}

#[test]
fn the_document_of_an_index_is_deterministic() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let images = [image_for(&store, "amd64", ""), image_for(&store, "arm64", "")];
    let note = |text: &str| BTreeMap::from([("note".to_owned(), text.to_owned())]);
    let members =
        images.map(|image| NewMember { annotations: note(&image.config.architecture), image });
    let index = store.put_index(&members, &note("index")).unwrap();
    let bytes = store.read_blob(&index.digest, 10_000).unwrap().unwrap();
    assert_eq!(index.size, bytes.len() as u64);
    let document = Index::parse(&bytes).unwrap();
    assert_eq!(document.annotations, note("index"));
    let shown: Vec<String> = document
        .manifests
        .iter()
        .map(|entry| {
            let platform = entry.platform.as_ref().unwrap();
            format!("{platform} {} {}", entry.digest, entry.annotations["note"])
        })
        .collect();
    let expected: Vec<String> = members
        .iter()
        .map(|NewMember { image, .. }| {
            let of = &image.config.architecture;
            format!("linux/{of} {} {of}", image.manifest)
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn collection_keeps_the_images_of_a_named_index_and_no_others() {
    let scratch = Scratch::new();
    let (kept, lost) = {
        let store = scratch.store();
        let images = ["amd64", "arm64"].map(|architecture| image_for(&store, architecture, "1"));
        let kept = put(&store, &[&images[0], &images[1]]);
        store.tag(&reference("app"), TagTarget::Index(kept.digest)).unwrap();
        let images = ["amd64", "arm64"].map(|architecture| image_for(&store, architecture, "2"));
        let lost = put(&store, &[&images[0], &images[1]]);
        // Other annotations give an image of the index another manifest; the index keeps its own.
        let notes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let first = store.image(&kept.members[0].image).unwrap().unwrap();
        let again = store.put_image(&first.config, &first.layers, &notes).unwrap();
        assert_ne!(again.manifest, kept.members[0].descriptor.digest);
        (kept, lost)
    };
    let store = scratch.store();
    let report = store.gc(&ALL).unwrap();
    assert_eq!((report.indexes, report.images, report.layers), (1, 2, 2));
    assert_eq!(store.index(&lost.digest).unwrap(), None);
    assert_eq!(store.indexes().unwrap(), std::slice::from_ref(&kept));
    let image = store.resolve_for("app", &platform("amd64")).unwrap().unwrap();
    assert_eq!(image.manifest, kept.members[0].descriptor.digest);
    assert!(image.annotations.is_empty(), "those of the index");
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());

    store.untag(&reference("app")).unwrap();
    let report = store.gc(&GcPolicy { keep_untagged_images: true, ..ALL }).unwrap();
    assert_eq!((report.indexes, report.images), (0, 0));
    let report = store.gc(&ALL).unwrap();
    assert_eq!((report.indexes, report.images, report.layers), (1, 2, 2));
    assert_eq!(store.usage().unwrap().blobs, 0);
}

#[test]
fn an_index_that_a_live_process_has_made_is_not_collected() {
    let scratch = Scratch::new();
    let maker = scratch.store();
    let images = ["amd64", "arm64"].map(|architecture| image_for(&maker, architecture, ""));
    let index = put(&maker, &[&images[0], &images[1]]);
    assert_eq!(scratch.store().gc(&ALL).unwrap().indexes, 0);
    maker.tag(&reference("app"), TagTarget::Index(index.digest)).unwrap();
    drop(maker);
    assert_eq!(scratch.store().gc(&ALL).unwrap().indexes, 0);
}

#[test]
fn an_image_of_an_index_is_removed_with_the_index_unless_it_has_a_name() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (amd64, arm64) = (image_for(&store, "amd64", ""), image_for(&store, "arm64", ""));
    let index = put(&store, &[&amd64, &arm64]);
    store.tag(&reference("app"), TagTarget::Index(index.digest)).unwrap();
    store.tag(&reference("native"), amd64.id).unwrap();
    assert!(matches!(store.remove_image(&arm64.id), Err(StoreError::ImageInIndex { .. })));
    let error = store.remove_index(&index.digest).unwrap_err();
    assert!(error.to_string().ends_with("is still named `app:latest`"), "{error}");
    store.untag(&reference("app")).unwrap();
    assert_eq!(store.remove_index(&index.digest).unwrap(), [arm64.id]);
    assert_eq!(store.images().unwrap().len(), 1);
    assert!(store.remove_index(&index.digest).unwrap().is_empty());
    let missing = store.tag(&reference("app"), TagTarget::Index(index.digest)).unwrap_err();
    assert!(matches!(missing, StoreError::IndexMissing(_)), "{missing}");
}

#[test]
fn platforms_are_added_to_a_name_one_by_one_and_in_any_order() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let images = ["amd64", "arm64", "s390x"].map(|of| image_for(&store, of, "1"));
    let tag = |name: &str, image: &Image| store.tag_platform(&reference(name), image).unwrap();
    assert_eq!(tag("a", &images[0]), TagTarget::Image(images[0].id));
    assert_eq!(tag("a", &images[0]), TagTarget::Image(images[0].id), "the same again");
    assert!(matches!(tag("a", &images[1]), TagTarget::Index(_)));
    let all = tag("a", &images[2]);
    for image in images.iter().rev() {
        tag("b", image);
    }
    assert_eq!(store.tagged(&reference("b")).unwrap(), Some(all));
    let newer = image_for(&store, "arm64", "2");
    tag("a", &newer);
    let Some(Found::Index(index)) = store.find("a").unwrap() else { panic!("no index") };
    assert_eq!(index.platforms(), "linux/amd64, linux/arm64, linux/s390x");
    assert_eq!(store.index_image(&index, &platform("arm64")).unwrap(), newer);
}

#[test]
fn fsck_finds_an_index_without_an_image_and_takes_its_name_away() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (amd64, arm64) = (image_for(&store, "amd64", ""), image_for(&store, "arm64", ""));
    let index = put(&store, &[&amd64, &arm64]);
    store.tag(&reference("app"), TagTarget::Index(index.digest)).unwrap();
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
    file::remove_file(&store.inner.layout.image(&arm64.id)).unwrap();
    let what = format!("the image `{}`", arm64.id);
    let expected = Problem::Index { index: index.digest, what };
    assert_eq!(store.fsck(Repair::No).unwrap().problems, std::slice::from_ref(&expected));
    assert_eq!(store.resolve_for("app", &platform("amd64")).unwrap().unwrap(), amd64);
    let repaired = store.fsck(Repair::Yes).unwrap().problems;
    assert_eq!(repaired, [expected, Problem::Reference(reference("app"))]);
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
    assert_eq!(store.image(&amd64.id).unwrap(), Some(amd64));
}

#[test]
fn a_store_that_was_made_before_there_were_indexes_gets_their_place() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let images = ["amd64", "arm64"].map(|of| image_for(&store, of, ""));
    file::remove_dir(&scratch.root().join("indexes")).unwrap();
    assert!(store.indexes().unwrap().is_empty());
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
    let index = put(&store, &[&images[0], &images[1]]);
    assert_eq!(store.indexes().unwrap(), [index]);
}
