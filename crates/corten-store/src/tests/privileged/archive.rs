use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use corten_oci::digest::Digest;
use corten_oci::image::{Descriptor, Index, Manifest, media_type};
use corten_oci::json;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_sys::file;
use expect_test::expect;

use super::super::{Scratch, commit, config, fill, image, layer_tar, list, names};
use super::{TarBuilder, is_root};
use crate::archive::{LoadOptions, Loaded, Named, load, load_directory, save_docker, save_oci};
use crate::{Found, Image, NewMember, Repair, Store, StoreError};

fn options() -> LoadOptions {
    LoadOptions::new("linux/amd64".parse().unwrap())
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// An image of two layers, with two names.
fn sample(store: &Store) -> Named {
    let layers = [commit(store, &[("a/b", "1")]), commit(store, &[("c", "22")])];
    let image = image(store, &layers);
    let content = Found::Image(Box::new(image));
    Named { content, references: vec![reference("app:1"), reference("ghcr.io/x/app:latest")] }
}

fn load_from(scratch: &Scratch, archive: &[u8]) -> Result<Vec<Loaded>, StoreError> {
    let store = scratch.store();
    let loaded = load(&store, &mut { archive }, &options());
    for lease in names(&scratch.root().join("tmp")) {
        assert!(names(&scratch.root().join("tmp").join(lease)).is_empty());
    }
    loaded
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::default());
    encoder.read_to_end(&mut compressed).unwrap();
    compressed
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn check_loaded(loaded: &[Loaded], saved: &Named) {
    let [loaded] = loaded else { panic!("one image, not {}", loaded.len()) };
    assert_eq!(loaded.references, saved.references);
    let (image, saved) = (only(&loaded.content), only(&saved.content));
    assert_eq!((image.id, image.manifest), (saved.id, saved.manifest));
    let diff_ids = |image: &Image| -> Vec<_> { image.layers.iter().map(|l| l.diff_id).collect() };
    assert_eq!(diff_ids(image), diff_ids(saved));
}

/// The image, where it is not an index.
fn only(content: &Found) -> &Image {
    match content {
        Found::Image(image) => image,
        Found::Index(index) => panic!("an index of {}", index.platforms()),
    }
}

/// An index of two platforms that share a layer, with a name.
fn sample_index(store: &Store) -> Named {
    let shared = commit(store, &[("shared", "1")]);
    let mut members = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let layers = [shared.clone(), commit(store, &[("for", architecture)])];
        let mut config = config(&layers);
        config.architecture = architecture.to_owned();
        let notes = BTreeMap::from([("of".to_owned(), architecture.to_owned())]);
        let image = store.put_image(&config, &layers, &notes).unwrap();
        members.push(NewMember { image, annotations: notes });
    }
    let notes = BTreeMap::from([("all".to_owned(), "1".to_owned())]);
    let index = store.put_index(&members, &notes).unwrap();
    Named { content: Found::Index(index), references: vec![reference("multi:1")] }
}

#[test]
fn an_archive_of_an_index_is_loaded_as_a_whole_or_for_one_platform() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample_index(&store);
    let Found::Index(saved) = &named.content else { panic!("no index") };
    let mut archive = Vec::new();
    save_oci(&store, std::slice::from_ref(&named), &mut archive).unwrap();
    let other = Scratch::new();
    let store = other.store();
    let loaded = load(&store, &mut archive.as_slice(), &LoadOptions::all()).unwrap();
    // What we write has the layers as the store has them: nothing changes on the way.
    let Found::Index(index) = &loaded[0].content else { panic!("no index") };
    assert_eq!((index.digest, &index.members), (saved.digest, &saved.members));
    assert_eq!(index.annotations, saved.annotations);
    for architecture in ["amd64", "arm64"] {
        let platform = Platform::new("linux", architecture, None);
        let image = store.resolve_for("multi:1", &platform).unwrap().unwrap();
        assert_eq!(image.config.architecture, architecture);
        assert_eq!(image.annotations["of"], architecture);
    }
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());

    let third = Scratch::new();
    let arm64 = LoadOptions::new(Platform::new("linux", "arm64", None));
    let loaded = load(&third.store(), &mut archive.as_slice(), &arm64).unwrap();
    assert_eq!(only(&loaded[0].content).config.architecture, "arm64");
    assert_eq!(third.store().images().unwrap().len(), 1);
}

#[test]
fn a_docker_archive_of_an_index_has_one_platform() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample_index(&store);
    let save = |architecture: &str| {
        let platform = Platform::new("linux", architecture, None);
        let mut archive = Vec::new();
        save_docker(&store, std::slice::from_ref(&named), &platform, &mut archive)?;
        Ok::<_, StoreError>(archive)
    };
    let other = Scratch::new();
    let loaded = load_from(&other, &save("arm64").unwrap()).unwrap();
    assert_eq!(only(&loaded[0].content).config.architecture, "arm64");
    let error = save("s390x").unwrap_err();
    let expected = "the image is not there for `linux/s390x`, only for linux/amd64, linux/arm64";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_index_whose_other_platforms_were_not_saved_is_an_image() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample(&store);
    let image = only(&named.content);
    let tars: Vec<Vec<u8>> = image.layers.iter().map(|l| layer_tar(&store, l)).collect();
    let mut layout = Layout::new();
    let manifest = layout.image(&store, image, &tars);
    let absent = Descriptor::new(media_type::MANIFEST, Digest::of(b"not here"), 3);
    let inner = json::canonical(&Index::new(vec![absent, manifest]));
    let inner = layout.blob(media_type::INDEX, inner);
    layout.index(vec![inner]);
    let other = Scratch::new();
    let loaded = load(&other.store(), &mut layout.tar().as_slice(), &LoadOptions::all()).unwrap();
    assert_eq!(only(&loaded[0].content).id, image.id);
}

#[test]
fn an_oci_archive_is_deterministic_and_read_back() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample(&store);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    save_oci(&store, std::slice::from_ref(&named), &mut one).unwrap();
    save_oci(&store, std::slice::from_ref(&named), &mut two).unwrap();
    assert!(one == two);
    expect![[r#"
        blobs/ dir 755 -1700000000
        blobs/sha256/ dir 755 -1700000000
        blobs/sha256/05e5fdf912e29aa7d21db555c52047971251519c4748976c0d43cf6d3f1a67df file 2560 644 -1700000000
        blobs/sha256/161be05047725f5fe4965602bec8ec6eb217364435b30869aadc3d732c96dfb7 file 237 644 -1700000000
        blobs/sha256/2bc17f8dd7eee8cbbe2578c3416b96937b400c9e5e852a765d41b99d11849936 file 2048 644 -1700000000
        blobs/sha256/ac3bbd0d88c069dc16623ff1e683176004fac9109a9da0ac882280aab0f2d05b file 547 644 -1700000000
        index.json file 711 644 -1700000000
        oci-layout file 30 644 -1700000000
    "#]]
    .assert_eq(&list(&one));
    for archive in [one.clone(), gzip(&one), zstd(&one)] {
        let other = Scratch::new();
        check_loaded(&load_from(&other, &archive).unwrap(), &named);
        let store = other.store();
        assert_eq!(store.resolve("app:1").unwrap().unwrap().id, only(&named.content).id);
        let layer = &store.resolve("app:1").unwrap().unwrap().layers[0];
        assert_eq!(file::read(&layer.path.join("a/b")).unwrap(), b"1");
    }
}

#[test]
fn a_docker_archive_is_deterministic_and_read_back() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample(&store);
    let mut archive = Vec::new();
    let host = Platform::host();
    save_docker(&store, std::slice::from_ref(&named), &host, &mut archive).unwrap();
    let other = Scratch::new();
    check_loaded(&load_from(&other, &archive).unwrap(), &named);
    let unpacked = scratch.path.join("unpacked");
    file::create_dir(&unpacked, 0o755).unwrap();
    assert!(gnu_tar(&["-x", "-C", unpacked.to_str().unwrap()], &archive).is_some());
    let manifest = file::read(&unpacked.join("manifest.json")).unwrap();
    expect![[r#"[{"Config":"161be05047725f5fe4965602bec8ec6eb217364435b30869aadc3d732c96dfb7.json","RepoTags":["app:1","ghcr.io/x/app:latest"],"Layers":["05e5fdf912e29aa7d21db555c52047971251519c4748976c0d43cf6d3f1a67df.tar","2bc17f8dd7eee8cbbe2578c3416b96937b400c9e5e852a765d41b99d11849936.tar"]}]"#]].assert_eq(&String::from_utf8(manifest).unwrap());
}

#[test]
fn a_layout_directory_is_read() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample(&store);
    let mut archive = Vec::new();
    save_oci(&store, std::slice::from_ref(&named), &mut archive).unwrap();
    let layout = scratch.path.join("layout");
    file::create_dir(&layout, 0o755).unwrap();
    assert!(gnu_tar(&["-x", "-C", layout.to_str().unwrap()], &archive).is_some());
    let other = Scratch::new();
    check_loaded(&load_directory(&other.store(), &layout, &options()).unwrap(), &named);
    let empty = load_directory(&other.store(), &scratch.path, &options()).unwrap_err();
    assert_eq!(
        empty.to_string(),
        "the archive is invalid: it has neither `oci-layout` nor `manifest.json`"
    );
}

/// Writes a layout by hand, as other tools do, with compressed layers.
struct Layout {
    files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    fn new() -> Self {
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        Self { files: BTreeMap::from([("oci-layout".to_owned(), layout)]) }
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.files.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        descriptor
    }

    fn image(&mut self, store: &Store, image: &Image, compressed: &[Vec<u8>]) -> Descriptor {
        let layers = compressed
            .iter()
            .map(|layer| self.blob(media_type::LAYER_GZIP, layer.clone()))
            .collect();
        let config = store.read_blob(&image.id.0, 10_000).unwrap().unwrap();
        let config = self.blob(media_type::CONFIG, config);
        self.blob(media_type::MANIFEST, json::canonical(&Manifest::new(config, layers)))
    }

    fn index(&mut self, manifests: Vec<Descriptor>) {
        self.files.insert("index.json".to_owned(), json::canonical(&Index::new(manifests)));
    }

    fn tar(&self) -> Vec<u8> {
        // The names come in another order than the parts are needed in.
        let mut builder = TarBuilder::default();
        for (name, bytes) in self.files.iter().rev() {
            let kind = corten_oci::tar::EntryKind::File { size: bytes.len() as u64 };
            builder = builder.entry(name, &super::meta(), &kind, bytes);
        }
        builder.finish()
    }
}

#[test]
fn compressed_layers_of_other_tools_are_read() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample(&store);
    let tars: Vec<Vec<u8>> =
        only(&named.content).layers.iter().map(|l| layer_tar(&store, l)).collect();
    let mut layout = Layout::new();
    // A zstd frame to be skipped comes first in zstd:chunked layers.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstd(&tars[1])].concat();
    let manifest = layout.image(&store, only(&named.content), &[gzip(&tars[0]), skipped]);
    let for_platform = |descriptor: &Descriptor, platform: &str| Descriptor {
        platform: Some(platform.parse::<Platform>().unwrap()),
        ..descriptor.clone()
    };
    let attestation = layout.blob(media_type::MANIFEST, b"{}".to_vec());
    let inner = Index::new(vec![
        for_platform(&attestation, "unknown/unknown"),
        for_platform(&manifest, "linux/amd64"),
    ]);
    let mut inner = layout.blob(media_type::INDEX, json::canonical(&inner));
    inner.annotations.insert("io.containerd.image.name".into(), "docker.io/library/app:1".into());
    layout.index(vec![inner]);
    let other = Scratch::new();
    let loaded = load_from(&other, &layout.tar()).unwrap();
    assert_eq!(only(&loaded[0].content).id, only(&named.content).id);
    assert_eq!(loaded[0].references, [reference("app:1")]);
    let store = other.store();
    let none = LoadOptions::new("linux/s390x".parse().unwrap());
    let refused = load(&store, &mut layout.tar().as_slice(), &none).unwrap_err();
    assert_eq!(refused.to_string(), "the archive has no image for `linux/s390x`");
}

#[test]
fn archives_that_lie_are_refused_and_leave_no_image() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let named = sample(&store);
    let tars: Vec<Vec<u8>> =
        only(&named.content).layers.iter().map(|l| layer_tar(&store, l)).collect();
    let refused = |change: &dyn Fn(&mut Layout)| {
        let mut layout = Layout::new();
        let manifest =
            layout.image(&store, only(&named.content), &[tars[0].clone(), gzip(&tars[1])]);
        layout.index(vec![manifest]);
        change(&mut layout);
        let other = Scratch::new();
        let error = load_from(&other, &layout.tar()).unwrap_err();
        assert!(other.store().images().unwrap().is_empty());
        error
    };
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    // Another layer under the name of the first.
    let name = blob(&tars[0]);
    let error = refused(&|layout| drop(layout.files.insert(name.clone(), tars[1].clone())));
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error:?}");
    // More bytes after the compressed stream: the layer is right, but the blob is not.
    let name = blob(&gzip(&tars[1]));
    let error = refused(&|layout| layout.files.get_mut(&name).unwrap().extend(gzip(b"")));
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error:?}");
    let error = refused(&|layout| drop(layout.files.remove(&name)));
    assert!(matches!(error, StoreError::Archive { .. }), "{error:?}");
    let error = refused(&|layout| {
        layout.index(vec![Descriptor::new(media_type::MANIFEST, Digest::of(b"absent"), 3)]);
    });
    assert!(matches!(error, StoreError::Archive { .. }), "{error:?}");
    let torn = |layout: &mut Layout| drop(layout.files.insert("index.json".into(), b"{".to_vec()));
    assert!(matches!(refused(&torn), StoreError::ArchiveImage { .. }));
    let bomb = gzip(&vec![0; 80 << 20]);
    let error = refused(&|layout| {
        let mut config = config(&only(&named.content).layers[..1]);
        config.rootfs.diff_ids[0].0 = Digest::of(b"never reached");
        let config = layout.blob(media_type::CONFIG, json::canonical(&config));
        // A thousand and more to one: twice compressed zeros.
        let layer = layout.blob(media_type::LAYER_GZIP, gzip(&bomb));
        let manifest = Manifest::new(config, vec![layer]);
        let manifest = layout.blob(media_type::MANIFEST, json::canonical(&manifest));
        layout.index(vec![manifest]);
    });
    assert!(matches!(error, StoreError::Tar(_)), "{error:?}");
    let limited = LoadOptions { limit_bytes: 10_000, ..options() };
    let refused = load(&store, &mut bomb.as_slice(), &limited);
    assert!(matches!(refused, Err(StoreError::TooLarge { limit_bytes: 10_000 })));
}

#[test]
fn a_layer_that_expands_too_much_is_refused() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let zeros = vec![0_u8; 1 << 20];
    let mut tar = corten_oci::tar::Writer::new(Vec::new());
    let path = corten_oci::tree::TreePath::new(b"zeros").unwrap();
    let size = 200 << 20;
    tar.entry(&path, &super::meta(), &corten_oci::tar::EntryKind::File { size }).unwrap();
    for _ in 0..200 {
        tar.content(&zeros).unwrap();
    }
    let (tar, _) = tar.finish().unwrap();
    let mut layout = Layout::new();
    let mut config = config(&[]);
    config.rootfs.diff_ids = vec![corten_oci::digest::DiffId(Digest::of(&tar))];
    // zstd makes a few kilobytes of this.
    let layer = layout.blob(media_type::LAYER_ZSTD, zstd(&tar));
    let config = layout.blob(media_type::CONFIG, json::canonical(&config));
    let manifest = Manifest::new(config, vec![layer]);
    let manifest = layout.blob(media_type::MANIFEST, json::canonical(&manifest));
    layout.index(vec![manifest]);
    let error = load_from(&scratch, &layout.tar()).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
}

#[test]
fn a_list_that_names_one_large_document_very_often_is_refused() {
    if !is_root() {
        return;
    }
    let mut large = config(&[]);
    large.config.labels.insert("large".to_owned(), "x".repeat(3 << 20));
    let large = json::canonical(&large);
    let one = r#"{"Config":"c.json","RepoTags":null,"Layers":[]}"#;
    let docker = |count: usize| {
        let manifest = format!("[{}]", vec![one; count].join(","));
        let file = |bytes: &[u8]| corten_oci::tar::EntryKind::File { size: bytes.len() as u64 };
        TarBuilder::default()
            .entry("c.json", &super::meta(), &file(&large), &large)
            .entry("manifest.json", &super::meta(), &file(manifest.as_bytes()), manifest.as_bytes())
            .finish()
    };
    assert_eq!(load_from(&Scratch::new(), &docker(2)).unwrap().len(), 2);
    let scratch = Scratch::new();
    let error = load_from(&scratch, &docker(100)).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    assert_eq!(scratch.store().images().unwrap(), []);
}

#[test]
fn links_in_old_docker_archives_are_followed() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a", "1")]);
    let image = image(&store, &[layer.clone(), layer.clone()]);
    let config = store.read_blob(&image.id.0, 10_000).unwrap().unwrap();
    let manifest =
        br#"[{"Config":"c.json","RepoTags":null,"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let file = |bytes: &[u8]| corten_oci::tar::EntryKind::File { size: bytes.len() as u64 };
    let tar = layer_tar(&store, &layer);
    let archive = TarBuilder::default()
        .symlink("two/layer.tar", "../one/layer.tar")
        .entry("one/layer.tar", &super::meta(), &file(&tar), &tar)
        .entry("c.json", &super::meta(), &file(&config), &config)
        .entry("manifest.json", &super::meta(), &file(manifest), manifest)
        .finish();
    let other = Scratch::new();
    let loaded = load_from(&other, &archive).unwrap();
    assert_eq!(only(&loaded[0].content).id, image.id);
    assert_eq!(only(&loaded[0].content).layers.len(), 2);
}

/// Runs GNU tar, if it is there; `None` if not.
#[expect(clippy::disallowed_methods, reason = "an independent reader is the point of the test")]
fn gnu_tar(arguments: &[&str], input: &[u8]) -> Option<String> {
    let spawned = std::process::Command::new("tar")
        .args(arguments)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        writeln!(std::io::stderr(), "skipped: there is no `tar` here").unwrap();
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "tar: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn gnu_tar_reads_a_canonical_layer() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let staging = store.stage().unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    fill(staging.tree(), &[("bin/tool", "#!/bin/sh"), ("ü", "umlaut"), (&long, "long")]);
    file::hard_link(&staging.tree().join("bin/tool"), &staging.tree().join("bin/z")).unwrap();
    file::symlink(Path::new("tool"), &staging.tree().join("bin/sh")).unwrap();
    file::set_mode(&staging.tree().join("bin/tool"), 0o4755).unwrap();
    let layer = store.commit(staging, &super::super::SEAL).unwrap();
    let tar = layer_tar(&store, &layer);
    let arguments = ["-t", "-v", "--numeric-owner", "--utc", "--quoting-style=literal"];
    let Some(listed) = gnu_tar(&arguments, &tar) else { return };
    let listed = listed.replace(&"d".repeat(120), "DDD").replace(&"f".repeat(150), "FFF");
    expect![[r#"
        drwxr-xr-x 0/0               0 2023-11-14 22:13 bin/
        lrwxrwxrwx 0/0               0 2023-11-14 22:13 bin/sh -> tool
        -rwsr-xr-x 0/0               9 2023-11-14 22:13 bin/tool
        hrwsr-xr-x 0/0               0 2023-11-14 22:13 bin/z link to bin/tool
        drwxr-xr-x 0/0               0 2023-11-14 22:13 DDD/
        -rw-r--r-- 0/0               4 2023-11-14 22:13 DDD/FFF
        -rw-r--r-- 0/0               6 2023-11-14 22:13 ü
    "#]]
    .assert_eq(&listed);
}
