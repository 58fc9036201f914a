//! Images in the store: listing, naming, describing, removing.

use expect_test::expect;

use super::world::{with_data, with_root_files};

#[test]
fn a_build_says_what_it_does_and_what_it_made() {
    let context = with_data();
    context.check(
        &["build", "-t", "data:v2", "data"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
        #1 [1/2] COPY model.bin /models/
        #1 CACHED
        #2 [2/2] COPY --chown=1000:1000 notes.txt /
        #2 CACHED
        built data:v2  [ID]  9.22kB  [DURATION]
        hint: `corten run --rm data:v2` runs it
    "#]],
    );
    context.check(
        &["build", "--quiet", "data"],
        &expect![[r#"
        exit: 0
        --- stdout
        sha256:[DIGEST]
        --- stderr
    "#]],
    );
    context.check(
        &["build", "--progress", "json", "data"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
        {"event":"step_started","step":1,"title":"COPY model.bin /models/","total":2}
        {"elapsed_ms":[MS],"event":"step_finished","outcome":"cached","step":1}
        {"event":"step_started","step":2,"title":"COPY --chown=1000:1000 notes.txt /","total":2}
        {"elapsed_ms":[MS],"event":"step_finished","outcome":"cached","step":2}
        built [ID]  [ID]  9.22kB  [DURATION]
        hint: `corten run --rm [ID]` runs it
    "#]],
    );
    context.check(
        &["build", "--plan", "data"],
        &expect![[r#"
        exit: 0
        --- stdout
        platform linux/amd64

        stage 0 (target)
          from scratch
           1 COPY model.bin /models/
               from the build context: model.bin -> /models/
           2 COPY --chown=1000:1000 notes.txt /
               from the build context: notes.txt -> /

        image
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          env MODE=test
          workdir /
          entrypoint ["/serve"]
          label owner=data team
        --- stderr
    "#]],
    );
}

#[test]
fn images_are_listed_in_every_form() {
    let context = with_data();
    context.run(&["tag", "data:v1", "registry.example/team/data:latest"]).success();
    context.check(
        &["images"],
        &expect![[r#"
        exit: 0
        --- stdout
        REPOSITORY  TAG  IMAGE ID  CREATED  SIZE
        data  v1  [ID]  [AGE]  9.22kB
        registry.example/team/data  latest  [ID]  [AGE]  9.22kB
        --- stderr
    "#]],
    );
    context.check(
        &["images", "--digests", "--no-trunc"],
        &expect![[r#"
        exit: 0
        --- stdout
        REPOSITORY  TAG  DIGEST  IMAGE ID  CREATED  SIZE
        data  v1  sha256:[DIGEST]  sha256:[DIGEST]  [AGE]  9.22kB
        registry.example/team/data  latest  sha256:[DIGEST]  sha256:[DIGEST]  [AGE]  9.22kB
        --- stderr
    "#]],
    );
    context.check(
        &["images", "data"],
        &expect![[r#"
        exit: 0
        --- stdout
        REPOSITORY  TAG  IMAGE ID  CREATED  SIZE
        data  v1  [ID]  [AGE]  9.22kB
        --- stderr
    "#]],
    );
    context.check(
        &["images", "data:v2"],
        &expect![[r#"
        exit: 0
        --- stdout
        REPOSITORY   TAG   IMAGE ID   CREATED   SIZE
        --- stderr
    "#]],
    );
    context.check(
        &["images", "--format", "{{.Repository}}={{.Size}}"],
        &expect![[r#"
        exit: 0
        --- stdout
        data=9.22kB
        registry.example/team/data=9.22kB
        --- stderr
    "#]],
    );
    context.check(
        &["images", "--format", "{{.Nothing}}"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the template cannot be filled in
          caused by: there is no field `.Nothing`
        hint: use `json`, `table {{.Field}}` or a Go template such as `{{.ID}}`
    "#]],
    );
    context.check(
        &["images", "--json"],
        &expect![[r#"
            exit: 0
            --- stdout
            {
              "items": [
                {
                  "CreatedAt": "[TIME]",
                  "CreatedSince": "[AGE]",
                  "Digest": "sha256:[DIGEST]",
                  "ID": "[ID]",
                  "Platform": "linux/amd64",
                  "Repository": "data",
                  "Size": "9.22kB",
                  "SizeBytes": 9216,
                  "Tag": "v1"
                },
                {
                  "CreatedAt": "[TIME]",
                  "CreatedSince": "[AGE]",
                  "Digest": "sha256:[DIGEST]",
                  "ID": "[ID]",
                  "Platform": "linux/amd64",
                  "Repository": "registry.example/team/data",
                  "Size": "9.22kB",
                  "SizeBytes": 9216,
                  "Tag": "latest"
                }
              ],
              "schema": "corten.images/1"
            }
            --- stderr
        "#]],
    );
}

#[test]
fn history_and_inspect_describe_an_image() {
    let context = with_data();
    context.check(&["history", "data:v1"], &expect![[r#"
        exit: 0
        --- stdout
        IMAGE  CREATED  CREATED BY  SIZE  COMMENT
        [ID]  [AGE]  ENTRYPOINT ["/serve"]  0B  corten.dockerfile.v0
        <missing>  [AGE]  ENV MODE=test  0B  corten.dockerfile.v0
        <missing>  [AGE]  COPY --chown=1000:1000 notes.txt / # buildkit  2.05kB  corten.dockerfile.v0
        <missing>  [AGE]  COPY model.bin /models/ # buildkit  7.17kB  corten.dockerfile.v0
        <missing>  [AGE]  LABEL owner=data team  0B  corten.dockerfile.v0
        --- stderr
    "#]]);
    context.check(
        &["inspect", "data:v1"],
        &expect![[r#"
        exit: 0
        --- stdout
        [
          {
            "Annotations": {},
            "Architecture": "amd64",
            "Author": "",
            "Config": {
              "Entrypoint": [
                "/serve"
              ],
              "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "MODE=test"
              ],
              "Labels": {
                "owner": "data team"
              },
              "WorkingDir": "/"
            },
            "Created": "[TIME]",
            "Digest": "sha256:[DIGEST]",
            "History": [
              {
                "comment": "corten.dockerfile.v0",
                "created": "[TIME]",
                "created_by": "LABEL owner=data team",
                "empty_layer": true
              },
              {
                "comment": "corten.dockerfile.v0",
                "created": "[TIME]",
                "created_by": "COPY model.bin /models/ # buildkit"
              },
              {
                "comment": "corten.dockerfile.v0",
                "created": "[TIME]",
                "created_by": "COPY --chown=1000:1000 notes.txt / # buildkit"
              },
              {
                "comment": "corten.dockerfile.v0",
                "created": "[TIME]",
                "created_by": "ENV MODE=test",
                "empty_layer": true
              },
              {
                "comment": "corten.dockerfile.v0",
                "created": "[TIME]",
                "created_by": "ENTRYPOINT [\"/serve\"]",
                "empty_layer": true
              }
            ],
            "Id": "sha256:[DIGEST]",
            "Os": "linux",
            "RepoDigests": [
              "data@sha256:[DIGEST]"
            ],
            "RepoTags": [
              "data:v1"
            ],
            "RootFS": {
              "Layers": [
                "sha256:[DIGEST]",
                "sha256:[DIGEST]"
              ],
              "Type": "layers"
            },
            "Size": 9216,
            "Variant": null
          }
        ]
        --- stderr
    "#]],
    );
    context.check(
        &["inspect", "--format", "{{.Config.Entrypoint}} {{.Os}}", "data:v1"],
        &expect![[r#"
            exit: 0
            --- stdout
            [/serve] linux
            --- stderr
        "#]],
    );
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let context = with_data();
    context.run(&["tag", "data:v1", "data:stable"]).success();
    context.check(
        &["rmi", "data:v1"],
        &expect![[r#"
        exit: 0
        --- stdout
        Untagged: data:v1
        --- stderr
    "#]],
    );
    context.check(
        &["rmi", "data:stable"],
        &expect![[r#"
        exit: 0
        --- stdout
        Untagged: data:stable
        Deleted: sha256:[DIGEST]
        --- stderr
    "#]],
    );
    context.check(
        &["images", "-q"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
    context.run(&["build", "-q", "-t", "data:v1", "data"]).success();
    context.run(&["system", "fsck"]).success();
}

#[test]
fn an_id_with_several_names_is_removed_with_force_only() {
    let context = with_data();
    context.run(&["tag", "data:v1", "data:stable"]).success();
    let id = context.run(&["images", "-q", "data:v1"]).stdout().trim().to_owned();
    context.check(
        &["rmi", &id],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: image `[ID]` has 2 names: data:stable, data:v1
        hint: remove it with all of them: `corten rmi --force [ID]`
    "#]],
    );
    context.check(
        &["rmi", "-f", &id],
        &expect![[r#"
        exit: 0
        --- stdout
        Untagged: data:stable
        Untagged: data:v1
        Deleted: sha256:[DIGEST]
        --- stderr
    "#]],
    );
}

#[test]
fn two_stores_give_the_same_image() {
    let one = with_root_files();
    let other = with_root_files();
    let build = |context: &corten_testkit::TestContext| {
        let output = context.run(&["build", "--quiet", "base"]).success();
        output.stdout().to_owned()
    };
    assert_eq!(build(&one), build(&other));
}

#[test]
fn the_id_file_has_the_id_and_nothing_else() {
    let context = with_data();
    let printed = context.run(&["build", "-q", "--iidfile", "id", "data"]).success();
    assert_eq!(context.read("id"), printed.stdout().trim_end());
}

#[test]
fn labels_and_arguments_reach_the_image() {
    let context = with_data();
    context.write("args/Dockerfile", "FROM scratch\nARG V=1\nENV VERSION=$V\n");
    context
        .run(&["build", "-q", "-t", "args", "--build-arg", "V=2", "--label", "a=b", "args"])
        .success();
    context.check(
        &["inspect", "--format", "{{.Config.Env}} {{.Config.Labels}}", "args"],
        &expect![[r#"
            exit: 0
            --- stdout
            [PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin VERSION=2] map[a:b]
            --- stderr
        "#]],
    );
    context.check(
        &["build", "-q", "--build-arg", "TYPO=2", "args"],
        &expect![[r#"
        exit: 0
        --- stdout
        sha256:[DIGEST]
        --- stderr
    "#]],
    );
}

#[test]
fn only_the_wanted_stage_is_built() {
    let context = with_data();
    context.write(
        "stages/Dockerfile",
        "FROM scratch AS one\nENV A=1\nFROM scratch AS broken\nCOPY nothing /\nFROM one\nENV B=2\n",
    );
    context.run(&["build", "-q", "-t", "last", "stages"]).success();
    context.run(&["build", "-q", "-t", "first", "--target", "one", "stages"]).success();
    context.check(
        &["inspect", "-f", "{{.Config.Env}}", "last", "first"],
        &expect![[r#"
        exit: 0
        --- stdout
        [PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin A=1 B=2]
        [PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin A=1]
        --- stderr
    "#]],
    );
    context.check(&["build", "-q", "--target", "broken", "stages"], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to find `nothing` in the build context
         --> stages/Dockerfile:4:6
          |
        4 | COPY nothing /
          |      ^^^^^^^
        hint: paths count from the top of the context: name the file as it is called there, or build with another directory
    "#]]);
}

#[test]
fn pruning_keeps_a_budget_of_the_cache() {
    let context = with_data();
    context.run(&["rmi", "data:v1"]).success();
    context.run(&["system", "prune", "--keep-storage", "1g"]).success();
    context.check(
        &["system", "df"],
        &expect![[r#"
        exit: 0
        --- stdout
        layers of images                 0        0B
        build cache                      2    5.01kB
        cache mounts                     0        0B
        downloads                        0        0B
        blobs                            0        0B
        --- stderr
        hint: `corten system prune --all` removes the build cache, the cache mounts and the downloads
    "#]],
    );
    context.run(&["system", "prune", "--all", "--keep-younger", "1h"]).success();
    context.run(&["build", "-q", "data"]).success();
    context.check(
        &["system", "prune", "--keep-storage", "100"],
        &expect![[r#"
        exit: 0
        --- stdout
        removed 1 layers, 1 images and 2 blobs: 6.60kB
        --- stderr
    "#]],
    );
    context.check(
        &["system", "df"],
        &expect![[r#"
        exit: 0
        --- stdout
        layers of images                 0        0B
        build cache                      1        6B
        cache mounts                     0        0B
        downloads                        0        0B
        blobs                            0        0B
        --- stderr
        hint: `corten system prune --all` removes the build cache, the cache mounts and the downloads
    "#]],
    );
    context.check(
        &["system", "prune", "--keep-storage", "much"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to read `--keep-storage`: `much` is not a size in bytes
        hint: for example `512m`
    "#]],
    );
    context.check(
        &["system", "prune", "--keep-younger", "1 day"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to read `--keep-younger`: `1 day` is no time
        hint: for example `24h` or `90m`
    "#]],
    );
}

#[test]
fn pruning_removes_what_has_no_name() {
    let context = with_data();
    context.write("data/notes.txt", "other notes\n");
    context.run(&["build", "-q", "-t", "data:v1", "data"]).success();
    assert_eq!(context.run(&["images", "-q"]).stdout().lines().count(), 2);
    context.check(
        &["system", "prune", "--all"],
        &expect![[r#"
        exit: 0
        --- stdout
        removed 1 layers, 1 images and 2 blobs: 1.61kB
        --- stderr
    "#]],
    );
    assert_eq!(context.run(&["images", "-q"]).stdout().lines().count(), 1);
    context.check(
        &["system", "fsck"],
        &expect![[r#"
        exit: 0
        --- stdout
        5 objects checked: the store is whole
        --- stderr
    "#]],
    );
}
