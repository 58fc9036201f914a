//! Rules about `FROM`.

use expect_test::expect;

use super::{arm64, check, check_with, given, quiet, request};
use crate::Request;

#[test]
fn arguments_in_from_are_declared() {
    check(
        "FROM --platform=$BULIDPLATFORM busybox\n",
        &expect![[r#"
        1 UndefinedArgInFrom: the argument `BULIDPLATFORM` is not declared before the first `FROM` (did you mean `BUILDPLATFORM`?)
    "#]],
    );
    check(
        "ARG THE_OS=linux\nARG THE_ARCH=amd64\nFROM --platform=linux/${THEARCH} busybox\n",
        &expect![[r#"
            3 UndefinedArgInFrom: the argument `THEARCH` is not declared before the first `FROM` (did you mean `THE_ARCH`?)
        "#]],
    );
    check(
        "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n",
        &expect![[r#"
        2 UndefinedArgInFrom: the argument `version` is not declared before the first `FROM`
    "#]],
    );
    check("FROM busybox\n# check=skip=UndefinedArgInFrom\nFROM busybox${x}\n", &expect![[r#""#]]);
    // An argument of a stage is not seen by FROM.
    check(
        "FROM busybox\nARG later=1\nFROM busybox:v$later\n",
        &expect![[r#"
        3 UndefinedArgInFrom: the argument `later` is not declared before the first `FROM`
    "#]],
    );
    quiet("ARG base=scratch\nFROM $base\n");
    quiet("ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM busybox\n");
    quiet("FROM --platform=$BUILDPLATFORM busybox\n");
    quiet("ARG DEBUG\nFROM busybox${DEBUG}\n");
    quiet("ARG DEBUG\nFROM busy${DEBUG:-box}\n");
    quiet("ARG DEBUG=\"\"\nFROM busybox${DEBUG-@bogus}\n");
}

#[test]
fn defaults_make_a_valid_name() {
    let with = |name, value, file, expected| check_with(file, &given(&[(name, value)]), expected);
    with(
        "VERSION",
        "1",
        "ARG VERSION\nFROM busybox:$VERSION\n",
        &expect![[r#"
        2 InvalidDefaultArgInFrom: without build arguments `busybox:$VERSION` is no name of an image
    "#]],
    );
    with(
        "IMAGE",
        "busybox",
        "ARG IMAGE\nFROM $IMAGE\n",
        &expect![[r#"
        2 InvalidDefaultArgInFrom: without build arguments `$IMAGE` is no name of an image
    "#]],
    );
    with(
        "END",
        "box:1",
        "ARG END=\"box:\"\nFROM busy${END}\n",
        &expect![[r#"
        2 InvalidDefaultArgInFrom: without build arguments `busy${END}` is no name of an image
    "#]],
    );
    with("VERSION", "1", "ARG VERSION=\"latest\"\nFROM busybox:${VERSION}\n", &expect![[r#""#]]);
    with("KIND", "-musl", "ARG KIND=\"\"\nFROM busybox:stable${KIND}\n", &expect![[r#""#]]);
    with("KIND", "-musl", "\tARG KIND\n\tFROM busybox:stable${KIND}\n", &expect![[r#""#]]);
    // Whether or not an argument is to blame.
    check(
        "FROM Busybox\n# check=skip=InvalidDefaultArgInFrom\nFROM BIG\n",
        &expect![[r#"
        1 InvalidDefaultArgInFrom: without build arguments `Busybox` is no name of an image
        3 InvalidDefaultArgInFrom: without build arguments `BIG` is no name of an image
    "#]],
    );
    // Nothing follows a base image without a name.
    check(
        "ARG IMAGE\nFROM $IMAGE\nCMD run\nFROM busybox$x\n",
        &expect![[r#"
        2 InvalidDefaultArgInFrom: without build arguments `$IMAGE` is no name of an image
    "#]],
    );
}

#[test]
fn target_platform_is_what_holds_anyway() {
    check(
        "FROM --platform=$TARGETPLATFORM busybox\n",
        &expect![[r#"
        1 RedundantTargetPlatform: the platform `$TARGETPLATFORM` is what holds without it
    "#]],
    );
    check(
        "FROM --platform=${TARGETPLATFORM} busybox\n",
        &expect![[r#"
        1 RedundantTargetPlatform: the platform `${TARGETPLATFORM}` is what holds without it
    "#]],
    );
    check(
        "FROM --platform=${TARGETPLATFORM:-linux/s390x} busybox\n",
        &expect![[r#"
        1 RedundantTargetPlatform: the platform `${TARGETPLATFORM:-linux/s390x}` is what holds without it
    "#]],
    );
    quiet("FROM --platform=$TARGETOS/$TARGETARCH busybox\n");
    quiet("#\n# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM busybox\n");
}

#[test]
fn a_constant_platform_is_said_by_the_name_of_the_stage() {
    check(
        "FROM --platform=linux/amd64 busybox\n",
        &expect![[r#"
        1 FromPlatformFlagConstDisallowed: `--platform` has the constant value `linux/amd64`
    "#]],
    );
    check(
        "FROM --platform=linux/amd64 busybox AS tools\n",
        &expect![[r#"
        1 FromPlatformFlagConstDisallowed: `--platform` has the constant value `linux/amd64`
    "#]],
    );
    quiet("FROM --platform=linux/amd64 busybox AS my_amd64_stage\n");
    quiet("FROM --platform=linux/amd64 busybox AS linux\n");
    quiet("ARG P=linux/amd64\nFROM --platform=$P busybox\n");
    // What is no platform is an error of the build.
    quiet("FROM --platform=nonsense busybox\nCMD run\n");
}

#[test]
fn a_base_for_another_platform_is_noticed() {
    check(
        "FROM foreign\nENV a=b\n",
        &expect![[r#"
        1 InvalidBaseImagePlatform: the base image `foreign` is for `linux/arm64`, and this build is for `linux/amd64`
    "#]],
    );
    check("# check=skip=InvalidBaseImagePlatform\nFROM foreign\n", &expect![[r#""#]]);
    check_with("FROM foreign\n", &Request { platform: arm64(), ..request() }, &expect![[r#""#]]);
}
