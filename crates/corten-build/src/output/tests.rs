use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::{Annotation, Output, parse_all};

/// Parses each line and shows what became of it.
fn check(specs: &[&str], expected: &Expect) {
    let mut shown = String::new();
    for spec in specs {
        writeln!(shown, "{spec}").unwrap();
        match Output::parse(spec) {
            Ok(output) => writeln!(shown, "    {output:?}").unwrap(),
            Err(error) => {
                writeln!(shown, "    error: {error}").unwrap();
                if let Some(hint) = error.hint() {
                    writeln!(shown, "    hint: {hint}").unwrap();
                }
            }
        }
    }
    expected.assert_eq(&shown);
}

#[test]
fn outputs_are_spelled_as_in_buildkit() {
    check(
        &[
            "-",
            "out",
            "./a=b",
            "type=local,dest=out",
            "type=local,dest=out,mode=copy,platform-split=false",
            "type=tar",
            "type=tar,dest=x.tar",
            "type=oci,dest=-",
            "type=oci,dest=x,tar=false",
            "Type=oci, DEST=x ,compression=gzip",
            "type=oci,dest=x,compression=gzip,compression-level=9,force-compression=true",
            "type=oci,dest=x,compression=zstd,compression-level=0,rewrite-timestamp=1",
            "type=oci,dest=x,oci-mediatypes=false",
            "type=docker",
            "type=docker,dest=x,compression=uncompressed",
            "type=image,\"name=a,b:2\",push=false,oci-mediatypes=true",
            "type=image,annotation.A=b=c,annotation-manifest-descriptor[linux/arm64].d=",
            "type=cacheonly",
        ],
        &expect![[r#"
            -
                Tar(TarOutput { destination: Stdout, split: None })
            out
                Local(LocalOutput { path: "out", split: None })
            ./a=b
                Local(LocalOutput { path: "./a=b", split: None })
            type=local,dest=out
                Local(LocalOutput { path: "out", split: None })
            type=local,dest=out,mode=copy,platform-split=false
                Local(LocalOutput { path: "out", split: Some(false) })
            type=tar
                Tar(TarOutput { destination: Stdout, split: None })
            type=tar,dest=x.tar
                Tar(TarOutput { destination: Path("x.tar"), split: None })
            type=oci,dest=-
                Archive(ArchiveOutput { form: Oci, tar: true, destination: Stdout, names: [], annotations: [], compression: Uncompressed })
            type=oci,dest=x,tar=false
                Archive(ArchiveOutput { form: Oci, tar: false, destination: Path("x"), names: [], annotations: [], compression: Uncompressed })
            Type=oci, DEST=x ,compression=gzip
                Archive(ArchiveOutput { form: Oci, tar: true, destination: Path("x "), names: [], annotations: [], compression: Gzip { level: 6 } })
            type=oci,dest=x,compression=gzip,compression-level=9,force-compression=true
                Archive(ArchiveOutput { form: Oci, tar: true, destination: Path("x"), names: [], annotations: [], compression: Gzip { level: 9 } })
            type=oci,dest=x,compression=zstd,compression-level=0,rewrite-timestamp=1
                Archive(ArchiveOutput { form: Oci, tar: true, destination: Path("x"), names: [], annotations: [], compression: Zstd { level: 3 } })
            type=oci,dest=x,oci-mediatypes=false
                Archive(ArchiveOutput { form: OciWithDockerTypes, tar: true, destination: Path("x"), names: [], annotations: [], compression: Uncompressed })
            type=docker
                Image(ImageOutput { store: true, push: None, names: [], annotations: [] })
            type=docker,dest=x,compression=uncompressed
                Archive(ArchiveOutput { form: Docker, tar: true, destination: Path("x"), names: [], annotations: [], compression: Uncompressed })
            type=image,"name=a,b:2",push=false,oci-mediatypes=true
                Image(ImageOutput { store: true, push: None, names: [docker.io/library/a:latest, docker.io/library/b:2], annotations: [] })
            type=image,annotation.A=b=c,annotation-manifest-descriptor[linux/arm64].d=
                Image(ImageOutput { store: true, push: None, names: [], annotations: [Annotation { subject: Manifest, platform: None, key: "A", value: "b=c" }, Annotation { subject: ManifestDescriptor, platform: Some(Platform { architecture: "arm64", os: "linux", variant: None }), key: "d", value: "" }] })
            type=cacheonly
                CacheOnly
        "#]],
    );
}

#[test]
fn what_cannot_be_followed_says_what_can() {
    check(
        &[
            "",
            "dest=x",
            "type=oci,",
            "type=",
            "type=ocy,dest=x",
            "type=registry,name=a",
            "type=image,push=true",
            "type=image,compression=zstd",
            "type=image,oci-mediatypes=0",
            "type=image,name=A",
            "type=image,dest=x",
            "type=image,\"name=a",
            "type=image,na\"me=a",
            "type=oci,dst=x",
            "type=oci,dest=x,dest=y",
            "type=oci,tar=false",
            "type=oci,dest=x,tar=maybe",
            "type=oci,dest=x,compression=estargz",
            "type=oci,dest=x,compression=gzip,compression-level=10",
            "type=oci,dest=x,compression-level=1",
            "type=oci,dest=x,compression=zstd,oci-mediatypes=false",
            "type=oci,dest=x,annotation-index.a=b",
            "type=oci,dest=x,annotation.=b",
            "type=oci,dest=x,annotation[plan9].a=b",
            "type=docker,dest=x,compression=gzip",
            "type=local",
            "type=local,dest=-",
            "type=local,dest=x,mode=delete",
            "type=local,dest=x,annotation.a=b",
            "type=tar,platform-split=true",
            "type=cacheonly,dest=x",
        ],
        &expect![[r#"

                error: the output `` has no type
                hint: write `type=TYPE,KEY=VALUE`, or a directory alone
            dest=x
                error: the output `dest=x` has no type
                hint: write `type=TYPE,KEY=VALUE`, or a directory alone
            type=oci,
                error: `` is not `KEY=VALUE`
                hint: write `type=TYPE,KEY=VALUE`, or a directory alone
            type=
                error: the output type `` is not known
                hint: there are `image`, `registry`, `oci`, `docker`, `local`, `tar`, `cacheonly`
            type=ocy,dest=x
                error: the output type `ocy` is not known
                hint: did you mean `oci`? There are `image`, `registry`, `oci`, `docker`, `local`, `tar`, `cacheonly`
            type=registry,name=a
                Image(ImageOutput { store: false, push: Some(Push { compression: Gzip { level: 6 }, insecure: false }), names: [docker.io/library/a:latest], annotations: [] })
            type=image,push=true
                Image(ImageOutput { store: true, push: Some(Push { compression: Gzip { level: 6 }, insecure: false }), names: [], annotations: [] })
            type=image,compression=zstd
                error: `compression=zstd` cannot be done for an output of type `image`
                hint: the store keeps files, not archives; `type=oci,dest=FILE` compresses
            type=image,oci-mediatypes=0
                error: `oci-mediatypes=false` cannot be done for an output of type `image`
                hint: the store has OCI manifests; `type=oci,oci-mediatypes=false,dest=FILE` writes Docker's
            type=image,name=A
                error: `A` cannot be the name of an image
            type=image,dest=x
                error: the output type `image` does not know the key `dest`
                hint: it knows `name`, `annotation.*`, `compression`, `compression-level`, `force-compression`, `oci-mediatypes`, `rewrite-timestamp`, `push`, `registry.insecure`
            type=image,"name=a
                error: `type=image,"name=a` has a quotation mark without its pair
                hint: quote a whole field, with double quotes: `type=image,"name=a,b"`
            type=image,na"me=a
                error: `type=image,na"me=a` has a quotation mark without its pair
                hint: quote a whole field, with double quotes: `type=image,"name=a,b"`
            type=oci,dst=x
                error: the output type `oci` does not know the key `dst`
                hint: did you mean `dest`? It knows `dest`, `tar`, `name`, `annotation.*`, `compression`, `compression-level`, `force-compression`, `oci-mediatypes`, `rewrite-timestamp`
            type=oci,dest=x,dest=y
                error: the key `dest` is given twice
            type=oci,tar=false
                error: the output type `oci` needs a destination
                hint: write `type=oci,dest=FILE`; `-` is standard output
            type=oci,dest=x,tar=maybe
                error: `tar=maybe` is not understood
                hint: write `true` or `false`
            type=oci,dest=x,compression=estargz
                error: `compression=estargz` is not understood
                hint: write `uncompressed`, `gzip` or `zstd`
            type=oci,dest=x,compression=gzip,compression-level=10
                error: `compression-level=10` is not understood
                hint: write a number from 0 to 9
            type=oci,dest=x,compression-level=1
                error: `compression-level without compression` cannot be done for an output of type `oci`
                hint: add `compression=gzip` or `compression=zstd`
            type=oci,dest=x,compression=zstd,oci-mediatypes=false
                error: `compression=zstd,oci-mediatypes=false` cannot be done for an output of type `oci`
                hint: Docker's media types have no zstd: leave `oci-mediatypes` out
            type=oci,dest=x,annotation-index.a=b
                Archive(ArchiveOutput { form: Oci, tar: true, destination: Path("x"), names: [], annotations: [Annotation { subject: Index, platform: None, key: "a", value: "b" }], compression: Uncompressed })
            type=oci,dest=x,annotation.=b
                error: `annotation.=b` is no annotation
                hint: write `NAME=VALUE` or `manifest-descriptor:NAME=VALUE`
            type=oci,dest=x,annotation[plan9].a=b
                error: `plan9` is no platform
            type=docker,dest=x,compression=gzip
                error: `compression=gzip` cannot be done for an output of type `docker`
                hint: old readers know no others: `type=oci,dest=FILE` compresses
            type=local
                error: the output type `local` needs a destination
                hint: write `type=local,dest=DIRECTORY`
            type=local,dest=-
                error: the output type `local` needs a destination
                hint: write `type=local,dest=DIRECTORY`
            type=local,dest=x,mode=delete
                error: `mode=delete` cannot be done for an output of type `local`
                hint: files are copied over what is there and nothing is deleted: remove the directory first
            type=local,dest=x,annotation.a=b
                error: the output type `local` does not know the key `annotation`
                hint: it knows `dest`, `mode`, `platform-split`, `rewrite-timestamp`
            type=tar,platform-split=true
                Tar(TarOutput { destination: Stdout, split: Some(true) })
            type=cacheonly,dest=x
                error: the output type `cacheonly` does not know the key `dest`
                hint: it knows no keys
        "#]],
    );
}

#[test]
fn one_output_at_most_goes_to_standard_output() {
    let parse =
        |specs: &[&str]| parse_all(&specs.iter().map(|&spec| spec.to_owned()).collect::<Vec<_>>());
    assert_eq!(parse(&["-", "out", "type=image"]).unwrap().len(), 3);
    let error = parse(&["-", "type=oci"]).unwrap_err();
    assert_eq!(error.to_string(), "two outputs go to standard output");
}

#[test]
fn annotations_name_what_they_are_put_on() {
    let mut shown = String::new();
    for text in [
        "a=b",
        "org.example.x=a:b=c",
        "manifest:a=b",
        "manifest,manifest-descriptor:a=b",
        "manifest[linux/arm64]:a=",
        "index:a=b",
        "manifst:a=b",
        "manifest[]:a=b",
        "a",
        "=b",
        "manifest:=b",
    ] {
        writeln!(shown, "{text}").unwrap();
        match Annotation::parse(text) {
            Ok(annotations) => {
                for Annotation { subject, platform, key, value } in annotations {
                    let platform = platform.map_or(String::new(), |platform| platform.to_string());
                    writeln!(shown, "    {subject:?} {platform} {key} = {value}").unwrap();
                }
            }
            Err(error) => {
                writeln!(shown, "    error: {error}; {}", error.hint().unwrap_or_default())
                    .unwrap();
            }
        }
    }
    expect![[r#"
        a=b
            Manifest  a = b
        org.example.x=a:b=c
            Manifest  org.example.x = a:b=c
        manifest:a=b
            Manifest  a = b
        manifest,manifest-descriptor:a=b
            Manifest  a = b
            ManifestDescriptor  a = b
        manifest[linux/arm64]:a=
            Manifest linux/arm64 a = 
        index:a=b
            Index  a = b
        manifst:a=b
            error: `manifst` is nothing that an annotation can be put on; did you mean `manifest`? There are `manifest`, `manifest-descriptor`, `index`, `index-descriptor`
        manifest[]:a=b
            error: `` is no platform; 
        a
            error: `a` is no annotation; write `NAME=VALUE` or `manifest-descriptor:NAME=VALUE`
        =b
            error: `=b` is no annotation; write `NAME=VALUE` or `manifest-descriptor:NAME=VALUE`
        manifest:=b
            error: `manifest:=b` is no annotation; write `NAME=VALUE` or `manifest-descriptor:NAME=VALUE`
    "#]].assert_eq(&shown);
}
