//! `build --provenance`: what is stated of an image, and where it is found.

use corten_testkit::TestContext;
use expect_test::expect;
use serde_json::Value;

use crate::outputs::with_app;

fn json(context: &TestContext, path: &str) -> Value {
    serde_json::from_str(&context.read(path)).expect("the file is JSON")
}

fn blob(context: &TestContext, layout: &str, digest: &Value) -> Value {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    json(context, &format!("{layout}/blobs/{digest}"))
}

/// The statement of a layout whose one index has one image.
fn statement(context: &TestContext, layout: &str) -> (Value, Value) {
    let index = json(context, &format!("{layout}/index.json"));
    let index = blob(context, layout, &index["manifests"][0]["digest"]);
    let entry = &index["manifests"][1];
    let image = index["manifests"][0].clone();
    let annotations = &entry["annotations"];
    assert_eq!(annotations["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(annotations["vnd.docker.reference.digest"], image["digest"]);
    let manifest = blob(context, layout, &entry["digest"]);
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
    (image, blob(context, layout, &layer["digest"]))
}

#[test]
fn the_statement_is_beside_the_image_and_the_same_each_time() {
    let context = with_app();
    let build = |to: &str, mode: &str| {
        let provenance = format!("--provenance=mode={mode}");
        let output = format!("type=oci,tar=false,dest={to}");
        let words =
            ["build", "-q", "-t", "app:1", &provenance, "-o", &output, "--build-arg", "A=b", "app"];
        context.run(&words).success();
    };
    build("one", "max");
    let (image, stated) = statement(&context, "one");
    let subject = &stated["subject"][0];
    assert_eq!(subject["name"], "pkg:docker/app@1?platform=linux%2Famd64".replace("amd64", arch()));
    let digest = image["digest"].as_str().expect("a digest");
    assert_eq!(digest, format!("sha256:{}", subject["digest"]["sha256"].as_str().expect("hex")));
    let definition = &stated["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["buildArguments"]["A"], "b");
    assert_eq!(definition["internalParameters"]["steps"].as_array().map(Vec::len), Some(4));

    build("two", "max");
    assert_eq!(context.read("one/index.json"), context.read("two/index.json"));

    build("small", "min");
    let (_, stated) = statement(&context, "small");
    let definition = &stated["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["buildArguments"], Value::Null);
    assert_eq!(definition["internalParameters"]["steps"], Value::Null);
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[test]
fn an_attested_archive_loads_as_the_image_alone() {
    let context = with_app();
    let words = ["build", "-q", "-t", "app:1", "--provenance", "-o", "type=oci,dest=a.tar", "app"];
    let id = context.run(&words).success();
    context.run(&["load", "-q", "-i", "a.tar"]).success();
    let shown = context.run(&["inspect", "--format", "{{.Id}}", "app:1"]).success();
    assert_eq!(shown.stdout(), id.stdout());
}

#[test]
fn the_metadata_file_has_the_predicate() {
    let context = with_app();
    let words = ["build", "-q", "--attest=type=provenance", "--metadata-file", "m.json", "app"];
    context.run(&words).success();
    let found = &json(&context, "m.json")["buildx.build.provenance"];
    let dockerfile = &found["buildDefinition"]["externalParameters"]["dockerfile"];
    assert_eq!(dockerfile["name"], "Dockerfile");
}

#[test]
fn a_statement_without_a_place_and_a_wrong_word_are_told() {
    let context = with_app();
    context.check(
        &["build", "--progress=quiet", "--provenance", "-t", "app", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            warning: the provenance is not kept: `type=oci`, `--push` and `--metadata-file` have a place for it
            built app:latest  [ID]  80.9kB  [DURATION]
            hint: `corten run --rm app:latest` runs it
        "#]],
    );
    context.check(&["build", "--provenance=mode=all", "app"], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `--provenance=mode=all` is not known
        hint: write `--provenance=true`, `--provenance=mode=max`, or `--attest type=provenance,mode=max`
    "#]]);
    context.check(&["build", "--attest", "type=vex", "app"], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `--attest=type=vex` is not known
        hint: write `--provenance=true`, `--provenance=mode=max`, or `--attest type=provenance,mode=max`
    "#]]);
}
