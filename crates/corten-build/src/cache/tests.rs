//! What is parsed.

use corten_oci::digest::{DiffId, Digest};
use corten_oci::image::{Descriptor, Manifest};
use corten_store::CacheKey;
use expect_test::{Expect, expect};

use super::record::{
    Blob, Cache, Mount, PIECE_BYTES_MAX, PIECES_MAX, Piece, RecordError, inline, parse_inline,
};
use super::spec::{CacheFrom, CacheSpecError, CacheTo};

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn cache() -> Cache {
    let mut cache = Cache::default();
    let layer = DiffId(digest("layer"));
    cache.steps.insert(CacheKey(digest("key")), layer);
    let media_type = "application/vnd.oci.image.layer.v1.tar+zstd".to_owned();
    cache.layers.insert(layer, Blob { digest: digest("blob"), size: 4, media_type });
    let piece = Piece { plain: digest("p"), plain_size: 1, digest: digest("z"), size: 9 };
    let name = digest("id").hex();
    cache
        .mounts
        .insert(name.clone(), Mount { name, id: "id".to_owned(), pieces: vec![piece, piece] });
    cache
}

#[test]
fn a_cache_comes_back_from_its_documents_and_its_manifest_names_each_blob_once() {
    let (config, manifest) = cache().documents();
    let read = Cache::parse(&config).unwrap();
    assert_eq!((read.steps, read.layers, read.mounts), {
        let cache = cache();
        (cache.steps, cache.layers, cache.mounts)
    });
    let manifest = Manifest::parse(&manifest).unwrap();
    assert_eq!(manifest.config.digest, Digest::of(&config));
    let digests: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
    assert_eq!(digests, [digest("blob"), digest("z")]);
}

#[test]
fn a_document_that_is_newer_or_damaged_is_refused() {
    let (config, _) = cache().documents();
    let text = String::from_utf8(config).unwrap();
    let refuse = |text: String| Cache::parse(text.as_bytes()).unwrap_err();
    let newer = refuse("{\"version\":2,\"steps\":\"in another form\"}".to_owned());
    assert_eq!(newer, RecordError::Version(2));
    let is_damaged = |text: String| {
        let error = refuse(text);
        assert!(matches!(error, RecordError::Damaged(_)), "{error}");
    };
    is_damaged(String::new());
    is_damaged(text.replace("\"key\":\"sha256:", "\"key\":\"sha255:"));
    is_damaged(text.replace(&digest("id").hex(), "../../etc"));
    is_damaged(text.replace("\"plainSize\":1", "\"plainSize\":99999999999"));
    is_damaged(text.replace("\"size\":9", "\"size\":99999999999"));
}

#[test]
fn an_image_has_the_records_of_its_own_layers() {
    let layers = [DiffId(digest("1")), DiffId(digest("2"))];
    let steps = [
        (CacheKey(digest("a")), layers[1]),
        (CacheKey(digest("b")), DiffId(digest("of another stage"))),
    ];
    let text = inline(&steps, &layers);
    let blob = |text: &str| Descriptor::new("x", digest(text), 1);
    let manifest = Manifest::new(blob("config"), vec![blob("one"), blob("two")]);
    let cache = parse_inline(&text, &manifest, &layers).unwrap();
    assert_eq!(cache.steps, [steps[0]].into());
    assert_eq!(cache.layers[&layers[1]].digest, digest("two"));
    parse_inline(&text, &manifest, &layers[..1]).unwrap_err();
    parse_inline(&text.replace(",1]", ",7]"), &manifest, &layers).unwrap_err();
    parse_inline("{\"version\":2,\"steps\":[]}", &manifest, &layers).unwrap_err();
}

fn check<T: std::fmt::Debug>(
    specs: &[&str],
    parse: fn(&str) -> Result<T, CacheSpecError>,
    expected: &Expect,
) {
    let mut table = String::new();
    for spec in specs {
        let line = match parse(spec) {
            Ok(parsed) => format!("{parsed:?}"),
            Err(error) => format!("error: {error}\n  hint: {:?}", error.hint()),
        };
        table.push_str(&format!("{spec}\n  {line}\n"));
    }
    expected.assert_eq(&table);
}

#[test]
fn caches_are_named_as_buildkit_names_them() {
    let specs = [
        "type=local,src=.cache",
        "type=local,src=d,tag=main",
        "type=registry,ref=registry.example:5000/a/b:cache",
        "registry.example/a/b",
        "type=local",
        "type=local,dest=d",
        "type=gha",
        "type=inline",
        "type=locl,src=d",
        "src=d",
        "type=local,src=a,src=b",
        "type=registry,ref=UPPER",
    ];
    check(
        &specs,
        CacheFrom::parse,
        &expect![[r#"
        type=local,src=.cache
          CacheFrom { place: Local { path: ".cache", tag: "latest" } }
        type=local,src=d,tag=main
          CacheFrom { place: Local { path: "d", tag: "main" } }
        type=registry,ref=registry.example:5000/a/b:cache
          CacheFrom { place: Registry { reference: registry.example:5000/a/b:cache, insecure: false } }
        registry.example/a/b
          CacheFrom { place: Registry { reference: registry.example/a/b:latest, insecure: false } }
        type=local
          error: the cache type `local` needs `src`
          hint: Some("write `type=local,src=DIRECTORY`")
        type=local,dest=d
          error: the cache type `local` does not know the key `dest`
          hint: Some("it knows `src`, `tag`")
        type=gha
          error: the cache type `gha` is not supported
          hint: Some("`type=local` makes a directory, which the cache step of a CI service or a synchronising tool can carry; `type=registry` needs a registry")
        type=inline
          error: a cache cannot be imported as `type=inline`
          hint: Some("name the image: `type=registry,ref=IMAGE`")
        type=locl,src=d
          error: the cache type `locl` is not known
          hint: Some("did you mean `local`? There are `local`, `registry`")
        src=d
          error: `src=d` has no type
          hint: Some("write `type=TYPE,KEY=VALUE`, such as `type=local,dest=DIRECTORY`")
        type=local,src=a,src=b
          error: the key `src` is given twice
          hint: None
        type=registry,ref=UPPER
          error: `UPPER` cannot be the name of a cache
          hint: None
    "#]],
    );
}

#[test]
fn exports_are_named_as_buildkit_names_them() {
    let specs = [
        "type=local,dest=.cache,mode=max",
        "type=local,dest=d,mounts=pip;npm,compression=gzip,compression-level=1",
        "type=local,dest=d,mounts=false,compression=uncompressed,ignore-error=true",
        "type=registry,ref=registry.example/a:c,mode=max,image-manifest=true",
        "type=inline",
        "type=local,dest=d,mode=some",
        "type=local,dest=d,compression=lz4",
        "type=local,dest=d,image-manifest=false",
        "type=s3,bucket=b",
        "type=local,des=d",
    ];
    check(
        &specs,
        CacheTo::parse,
        &expect![[r#"
        type=local,dest=.cache,mode=max
          CacheTo { place: Local { path: ".cache", tag: "latest" }, mode: Max, mounts: All, compression: Zstd { level: 3 }, ignore_error: false }
        type=local,dest=d,mounts=pip;npm,compression=gzip,compression-level=1
          CacheTo { place: Local { path: "d", tag: "latest" }, mode: Min, mounts: Some(["pip", "npm"]), compression: Gzip { level: 1 }, ignore_error: false }
        type=local,dest=d,mounts=false,compression=uncompressed,ignore-error=true
          CacheTo { place: Local { path: "d", tag: "latest" }, mode: Min, mounts: None, compression: Uncompressed, ignore_error: true }
        type=registry,ref=registry.example/a:c,mode=max,image-manifest=true
          CacheTo { place: Registry { reference: registry.example/a:c, insecure: false }, mode: Max, mounts: All, compression: Zstd { level: 3 }, ignore_error: false }
        type=inline
          CacheTo { place: Inline, mode: Min, mounts: None, compression: Zstd { level: 3 }, ignore_error: false }
        type=local,dest=d,mode=some
          error: `mode=some` is not understood
          hint: Some("write `min` or `max`")
        type=local,dest=d,compression=lz4
          error: `compression=lz4` is not understood
          hint: Some("write `zstd`, `gzip` or `uncompressed`")
        type=local,dest=d,image-manifest=false
          error: `image-manifest=false` is not understood
          hint: Some("write `true`, or leave it out")
        type=s3,bucket=b
          error: the cache type `s3` is not supported
          hint: Some("`type=local` makes a directory, which the cache step of a CI service or a synchronising tool can carry; `type=registry` needs a registry")
        type=local,des=d
          error: the cache type `local` does not know the key `des`
          hint: Some("did you mean `dest`? It knows `dest`, `tag`, `mode`, `mounts`, `compression`, `compression-level`, `force-compression`, `oci-mediatypes`, `image-manifest`, `ignore-error`")
    "#]],
    );
}

#[test]
fn a_cache_mount_does_not_become_more_than_its_blobs_can_hold() {
    let piece = |number: u64, size: u64| Piece {
        plain: Digest::of(b"plain"),
        plain_size: PIECE_BYTES_MAX,
        digest: Digest::of(&number.to_le_bytes()),
        size,
    };
    let mount = |pieces: Vec<Piece>| Mount { name: String::new(), id: "pip".to_owned(), pieces };
    // One blob of zeros, named again and again.
    let again = |count: usize| mount(vec![piece(0, 300); count]).excess_bytes();
    assert_eq!(again(128), None);
    assert_eq!(again(129), Some(129 * PIECE_BYTES_MAX));
    assert_eq!(again(PIECES_MAX), Some(PIECES_MAX as u64 * PIECE_BYTES_MAX));
    // Blobs of honest sizes.
    let honest = |count: u64| mount((0..count).map(|n| piece(n, 2 << 20)).collect());
    assert_eq!(honest(1000).excess_bytes(), None);
    assert_eq!(honest(8192).excess_bytes(), None);
    assert_eq!(honest(8193).excess_bytes(), Some(8193 * PIECE_BYTES_MAX));
}
