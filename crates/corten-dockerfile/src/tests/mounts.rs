//! `RUN --mount`, once its variables are expanded.

use expect_test::{Expect, expect};

use crate::mount::Mount;
use crate::{Kind, parse, word};

fn check(values: &[&str], expected: &Expect) {
    let mut out = String::new();
    for value in values {
        let file = parse(&format!("RUN --mount={value} a\n"));
        let shown = match &file.instructions[0].kind {
            Kind::Run(run) => {
                let lookup = |name: &str| (name == "v").then(|| "cache".to_owned());
                match run.mounts[0].resolve(&mut |text| word::expand(text, &lookup, '\\')) {
                    Ok(mount) => short(&mount),
                    Err(error) => match error.hint {
                        Some(hint) => format!("{} ({hint})", error.message),
                        None => error.message,
                    },
                }
            }
            _ => format!("refused: {}", file.diagnostics[0].message),
        };
        super::line(&mut out, &format!("{value} => {shown}"));
    }
    expected.assert_eq(&out);
}

/// Shows only what differs from a plain mount.
fn short(mount: &Mount) -> String {
    let (shown, plain) = (format!("{mount:#?}"), format!("{:#?}", Mount::default()));
    let plain: Vec<&str> = plain.lines().collect();
    let joined = shown.lines().filter(|line| !plain.contains(line)).map(str::trim);
    format!("{:?} {}", mount.kind, joined.collect::<Vec<_>>().join(" "))
}

#[test]
fn every_type_has_its_keys() {
    check(
        &[
            "target=/a",
            "type=bind,from=b,source=c,target=d,rw",
            "type=cache,id=a,target=/b,sharing=locked,mode=0755,uid=1,gid=2",
            "type=tmpfs,target=/a,size=1.5g",
            "type=secret,id=a,target=/b,required,mode=0400,env=C",
            "type=ssh,id=a,required=false",
        ],
        &expect![[r#"
            target=/a => Bind target: Some( "/a", ), read_only: true,
            type=bind,from=b,source=c,target=d,rw => Bind from: Some( "b", ), source: Some( "c", ), target: Some( "d", ),
            type=cache,id=a,target=/b,sharing=locked,mode=0755,uid=1,gid=2 => Cache kind: Cache, target: Some( "/b", ), id: Some( "a", ), sharing: Some( Locked, ), mode: Some( 493, ), uid: Some( 1, ), gid: Some( 2, ),
            type=tmpfs,target=/a,size=1.5g => Tmpfs kind: Tmpfs, target: Some( "/a", ), size_bytes: Some( 1610612736, ),
            type=secret,id=a,target=/b,required,mode=0400,env=C => Secret kind: Secret, target: Some( "/b", ), read_only: true, id: Some( "a", ), required: true, env: Some( "C", ), mode: Some( 256, ),
            type=ssh,id=a,required=false => Ssh kind: Ssh, read_only: true, id: Some( "a", ),
        "#]],
    );
}

#[test]
fn keys_have_other_names() {
    check(
        &["src=a,dst=b", "source=a,destination=b,ro", "rw=true", "readonly=0", "readwrite=F"],
        &expect![[r#"
            src=a,dst=b => Bind source: Some( "a", ), target: Some( "b", ), read_only: true,
            source=a,destination=b,ro => Bind source: Some( "a", ), target: Some( "b", ), read_only: true,
            rw=true => Bind 
            readonly=0 => Bind 
            readwrite=F => Bind read_only: true,
        "#]],
    );
}

#[test]
fn keys_and_types_are_taken_in_any_case() {
    check(
        &["TYPE=Cache,Target=/A,sharing=PRIVATE"],
        &expect![[r#"
        TYPE=Cache,Target=/A,sharing=PRIVATE => Cache kind: Cache, target: Some( "/A", ), sharing: Some( Private, ),
    "#]],
    );
}

#[test]
fn variables_work_everywhere_but_in_from() {
    check(
        &["type=$v,target=/$v", "from=$v", "from=a$", "type=cache,id=\"$v\""],
        &expect![[r#"
            type=$v,target=/$v => Cache kind: Cache, target: Some( "/cache", ),
            from=$v => refused: variables do not work in `from` of a mount
            from=a$ => Bind from: Some( "a$", ), read_only: true,
            type=cache,id="$v" => Cache kind: Cache, id: Some( "cache", ),
        "#]],
    );
}

#[test]
fn values_may_be_quoted_as_in_csv() {
    check(
        &["'\"target=/a,b\",type=cache'", "'\"target=/a\"\"b\"'", "'\"a'", "'a\"b'", ""],
        &expect![[r#"
            '"target=/a,b",type=cache' => Cache kind: Cache, target: Some( "/a,b", ),
            '"target=/a""b"' => a double quote is not closed
            '"a' => refused: invalid value of `--mount`: a double quote is not closed, or text follows it
            'a"b' => refused: invalid value of `--mount`: a double quote stands inside a field
             => refused: invalid value of `--mount`: it is empty
        "#]],
    );
}

#[test]
fn what_is_wrong_is_told_with_a_suggestion() {
    check(
        &[
            "type=cahce",
            "type=cache,sharing=lock",
            "tpye=bind",
            "foo",
            "target",
            "ro=x",
            "required",
            "type=cache,required",
            "size=1m,type=tmpfs",
            "mode=0755",
            "uid=1",
            "sharing=shared",
            "type=cache,mode=9",
            "type=cache,uid=-1",
            "type=cache,uid=+1",
            "type=tmpfs,size=x",
        ],
        &expect![[r#"
            type=cahce => invalid value `cahce` for `type` (did you mean `cache`?)
            type=cache,sharing=lock => invalid value `lock` for `sharing` (did you mean `locked`?)
            tpye=bind => unknown key `tpye` of a mount (did you mean `type`?)
            foo => unknown key `foo` of a mount (use one of `type`, `from`, `source`, `src`, `target`, `dst`, `destination`, `readonly`, `ro`, `readwrite`, `rw`, `required`, `size`, `id`, `sharing`, `mode`, `uid`, `gid`, `env`)
            target => the key `target` of a mount needs a value
            ro=x => invalid value `x` for `ro`
            required => a mount of type `bind` has no key `required` (write `type=secret` before it)
            type=cache,required => a mount of type `cache` has no key `required` (write `type=secret` before it)
            size=1m,type=tmpfs => a mount of type `bind` has no key `size` (write `type=tmpfs` before it)
            mode=0755 => a mount of type `bind` has no key `mode`
            uid=1 => a mount of type `bind` has no key `uid`
            sharing=shared => a mount of type `bind` has no key `sharing`
            type=cache,mode=9 => invalid value `9` for `mode`
            type=cache,uid=-1 => invalid value `-1` for `uid`
            type=cache,uid=+1 => invalid value `+1` for `uid`
            type=tmpfs,size=x => invalid value `x` for `size`
        "#]],
    );
}

#[test]
fn secrets_are_checked_as_a_whole() {
    check(
        &[
            "type=secret",
            "type=secret,id=a,source=b",
            "type=secret,from=a,id=b",
            "type=secret,id=a,sharing=shared",
            "type=secret,target=/a",
        ],
        &expect![[r#"
            type=secret => a mount of type `secret` needs an `id` or a `target`
            type=secret,id=a,source=b => `source` and `id` of a secret name the same thing twice
            type=secret,from=a,id=b => a mount of type `secret` has no key `from`
            type=secret,id=a,sharing=shared => a mount of type `secret` has no key `sharing`
            type=secret,target=/a => Secret kind: Secret, target: Some( "/a", ), read_only: true,
        "#]],
    );
}

#[test]
fn devices_are_named() {
    super::check(
        "RUN --device=a/b --device=a/b=c,required --device=name=x,required=0 a\n\
         RUN --device=a,name=b c\nRUN --device=a,b c\nRUN --device=a,required=x c\n\
         RUN --device= c\n",
        &expect![[r#"
            1 RUN device=Device { name: "a/b", required: false } device=Device { name: "a/b=c", required: true } device=Device { name: "x", required: false } shell "a"
            2 RUN unknown
            3 RUN unknown
            4 RUN unknown
            5 RUN unknown
            Dockerfile:2:14: error: the device is already named `a`
            Dockerfile:3:14: error: unknown key `b` of a device (hint: use one of `name`, `required`)
            Dockerfile:4:14: error: invalid value `x` for `required`
            Dockerfile:5:14: error: invalid value of `--device`: it is empty
        "#]],
    );
}
