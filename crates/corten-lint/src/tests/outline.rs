//! Targets and parameters.

use expect_test::{Expect, expect};

use super::{World, given};
use crate::{Model, Request, outline, targets};

fn check(text: &str, target: Option<&str>, expected: &Expect) {
    let file = corten_dockerfile::parse(text);
    let target = target.map(ToOwned::to_owned);
    let request = Request { target, ..given(&[("GIVEN", "by hand")]) };
    let model = Model::new(text, &file, &request, &World);
    let outline = outline(&model);
    let mut out = format!("{:?} {:?}\n", outline.name, outline.description);
    for arg in outline.args {
        out.push_str(&format!("arg {}={:?} {:?}\n", arg.name, arg.value, arg.description));
    }
    for (kind, all) in [("secret", outline.secrets), ("ssh", outline.ssh)] {
        for each in all {
            out.push_str(&format!("{kind} {} required={}\n", each.name, each.required));
        }
    }
    expected.assert_eq(&out);
}

const FILE: &str = "\
# BASE what it is built upon
ARG BASE=busybox:$TAG
ARG TAG=1
ARG UNUSED=1
# build where things are made
FROM $BASE AS build
# GIVEN is given by hand
ARG GIVEN=default
ARG TAG
ARG TARGETARCH
RUN --mount=type=secret,id=token,required=true --mount=type=ssh true
FROM scratch AS other
ARG NOT_NEEDED
# final the image
FROM scratch AS Final
ARG EMPTY
ARG SAME=${EMPTY}x
COPY --from=build / /
RUN --mount=type=secret,target=/run/key true
";

#[test]
fn an_outline_has_what_the_target_and_its_stages_take() {
    check(
        FILE,
        None,
        &expect![[r#"
        Some("final") Some("the image")
        arg BASE="busybox:" Some("what it is built upon")
        arg TAG="1" None
        arg GIVEN="by hand" Some("is given by hand")
        arg EMPTY="" None
        arg SAME="x" None
        secret token required=true
        secret key required=false
        ssh default required=false
    "#]],
    );
    check(
        FILE,
        Some("build"),
        &expect![[r#"
        Some("build") Some("where things are made")
        arg BASE="busybox:" Some("what it is built upon")
        arg TAG="1" None
        arg GIVEN="by hand" Some("is given by hand")
        secret token required=true
        ssh default required=false
    "#]],
    );
    check(
        FILE,
        Some("none"),
        &expect![[r#"
        None None
    "#]],
    );
    check(
        "FROM busybox\n",
        None,
        &expect![[r#"
        None None
    "#]],
    );
}

#[test]
fn targets_are_the_stages() {
    let text = format!("{FILE}FROM --platform=$BUILDPLATFORM final\n");
    let file = corten_dockerfile::parse(&text);
    let stages = corten_dockerfile::stages::stages(&file);
    let mut out = String::new();
    for each in targets(&file, &stages) {
        let (name, base, platform) = (each.name, each.base, each.platform);
        out.push_str(&format!(
            "{name:?} {base} {platform:?} {} {:?}\n",
            each.is_default, each.description
        ));
    }
    expect![[r#"
        Some("build") $BASE None false Some("where things are made")
        Some("other") scratch None false None
        Some("final") scratch None false Some("the image")
        None final Some("$BUILDPLATFORM") true None
    "#]]
    .assert_eq(&out);
}
