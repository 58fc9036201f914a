use std::collections::BTreeMap;
use std::slice;

use corten_oci::image::Manifest;
use corten_oci::reference::Reference;
use corten_sys::file;

use super::{Scratch, commit, config, image};
use crate::StoreError;

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn an_image_is_found_by_name_and_by_id() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layers = [commit(&store, &[("a", "1")]), commit(&store, &[("b", "2")])];
    let image = image(&store, &layers);
    assert_eq!(image.layers, layers);
    assert_eq!(store.tag(&reference("app:1"), image.id).unwrap(), None);
    let pinned = format!("app@{}", image.manifest);
    let texts = ["app:1", "docker.io/library/app:1", &pinned, &image.id.hex()[..4]];
    for text in texts {
        assert_eq!(store.resolve(text).unwrap().unwrap(), image, "{text}");
    }
    assert_eq!(store.resolve(&image.id.to_string()).unwrap().unwrap(), image);
    for text in ["app", "app:2", "zz", "sha256:", "UPPER", "other@sha256:00"] {
        assert_eq!(store.resolve(text).unwrap(), None, "{text}");
    }
}

#[test]
fn the_manifest_is_deterministic_and_describes_the_layers() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layers = [commit(&store, &[("a", "1")])];
    let annotations = BTreeMap::from([("z".to_owned(), "1".to_owned())]);
    let image = store.put_image(&config(&layers), &layers, &annotations).unwrap();
    let bytes = store.read_blob(&image.manifest, 10_000).unwrap().unwrap();
    expect_test::expect![[r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:7e1db22ebff9ca82dc3298d5d21422f83b388cbd662ec545be65bbe6ad60182b","size":163},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:59f1fe4b179f830457c7bc2f3203423e630193b887831a1cdbe575f59245d90c","size":2048}],"annotations":{"z":"1"}}"#]]
        .assert_eq(&String::from_utf8(bytes.clone()).unwrap());
    let manifest = Manifest::parse(&bytes).unwrap();
    assert_eq!(manifest.layers[0].digest, layers[0].diff_id.0);
    assert_eq!(manifest.layers[0].size, layers[0].tar_bytes);
}

#[test]
fn a_name_moves_and_the_image_that_had_it_is_told() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let one = image(&store, &[commit(&store, &[("a", "1")])]);
    let two = image(&store, &[commit(&store, &[("a", "2")])]);
    let name = reference("app");
    assert_eq!(store.tag(&name, one.id).unwrap(), None);
    assert_eq!(store.tag(&name, one.id).unwrap(), None);
    assert_eq!(store.tag(&name, two.id).unwrap(), Some(one.id.into()));
    assert_eq!(store.untag(&name).unwrap(), two.id.into());
    assert!(matches!(store.untag(&name), Err(StoreError::ReferenceMissing(_))));
    assert!(store.references().unwrap().is_empty());
}

#[test]
fn names_of_any_length_are_stored() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let image = image(&store, &[commit(&store, &[])]);
    let names = [
        format!("registry.example:5000/{}/app:{}", "a".repeat(200), "t".repeat(128)),
        "a/b".to_owned(),
        "a_b".to_owned(),
        format!("a@{}", image.manifest),
    ];
    for name in &names {
        store.tag(&reference(name), image.id).unwrap();
    }
    let mut expected: Vec<Reference> = names.iter().map(|name| reference(name)).collect();
    expected.sort();
    let found = store.references().unwrap();
    assert_eq!(found.iter().map(|t| t.reference.clone()).collect::<Vec<_>>(), expected);
}

#[test]
fn an_image_with_a_name_is_not_removed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let image = image(&store, &[commit(&store, &[])]);
    store.tag(&reference("app:1"), image.id).unwrap();
    let error = store.remove_image(&image.id).unwrap_err();
    assert!(error.to_string().ends_with("is still named `app:1`"), "{error}");
    store.untag(&reference("app:1")).unwrap();
    assert!(store.remove_image(&image.id).unwrap());
    assert!(!store.remove_image(&image.id).unwrap());
    assert!(matches!(store.tag(&reference("x"), image.id), Err(StoreError::ImageMissing(_))));
}

#[test]
fn an_image_needs_exactly_the_layers_of_its_configuration() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a", "1")]);
    let refused = store.put_image(&config(&[]), slice::from_ref(&layer), &BTreeMap::new());
    assert!(matches!(refused, Err(StoreError::LayersDiffer { .. })));
    file::remove_tree(&store.inner.layout.layer(&layer.diff_id)).unwrap();
    let refused = store.put_image(&config(slice::from_ref(&layer)), &[layer], &BTreeMap::new());
    assert!(matches!(refused, Err(StoreError::LayerMissing(_))));
}

#[test]
fn the_bytes_of_a_foreign_configuration_are_kept() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let bytes = b"{ \"os\":\"linux\",\n\"architecture\": \"amd64\", \"config\": {\"User\":\"\"} }";
    let image = store.put_image_bytes(bytes, &[], &BTreeMap::new()).unwrap();
    assert_eq!(store.read_blob(&image.id.0, 1000).unwrap().unwrap(), bytes);
}

#[test]
fn an_image_that_lost_a_layer_says_so() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a", "1")]);
    let image = image(&store, slice::from_ref(&layer));
    file::remove_tree(&store.inner.layout.layer(&layer.diff_id)).unwrap();
    let error = store.image(&image.id).unwrap_err();
    assert!(matches!(error, StoreError::ImageIncomplete { .. }));
    assert_eq!(error.hint().unwrap(), "pull or build the image again");
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn an_ambiguous_id_is_told_from_an_unknown_one() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut first_digits = std::collections::BTreeSet::new();
    let mut number = 0;
    let doubled = loop {
        let mut config = config(&[]);
        config.author = Some(number.to_string());
        let image = store.put_image(&config, &[], &BTreeMap::new()).unwrap();
        let digit = image.id.hex()[..1].to_owned();
        if !first_digits.insert(digit.clone()) {
            break digit;
        }
        number += 1;
    };
    let error = store.resolve(&doubled).unwrap_err();
    assert!(matches!(error, StoreError::AmbiguousId { count: 2, .. }));
}
