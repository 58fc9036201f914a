//! `--shell-on-error`, on a terminal of its own.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use corten_testkit::privilege::Need;
use corten_testkit::require;

use crate::world::with_base;

#[expect(clippy::disallowed_methods, reason = "a program that makes a terminal is talked with")]
fn script() -> Command {
    Command::new("script")
}

#[test]
fn a_failed_step_can_be_looked_at() {
    require!(Need::Root, Need::Overlay, Need::Program("script"));
    let context = with_base();
    context.write(
        "Dockerfile",
        "FROM base\nENV A=from-the-image\nWORKDIR /w\nUSER app\n\
         RUN --mount=type=tmpfs,target=/m echo half >/tmp/made; exit 7\n",
    );
    context.write("base2/Dockerfile", "FROM base\nRUN mkdir -p /tmp && chmod 1777 /tmp\n");
    context.run(&["build", "-q", "--network=none", "-t", "base", "base2"]).success();
    let line = format!(
        "{} --color never --root {} build --network=none --progress=plain --shell-on-error {}",
        env!("CARGO_BIN_EXE_corten"),
        context.root_dir().display(),
        context.work_dir().display()
    );
    let mut child = script()
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    let mut asked = false;
    loop {
        let length = output.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        seen.extend(&buffer[..length]);
        // The prompt comes when the shell reads.
        if !asked
            && String::from_utf8_lossy(&seen).contains("the build ends")
            && seen.ends_with(b"$ ")
        {
            asked = true;
            let ask = "echo \"[$(cat /tmp/made) $A $PWD $(id -u) $(ls -d /m)]\"; exit 3\n";
            input.write_all(ask.as_bytes()).unwrap();
        }
    }
    let status = child.wait().unwrap();
    let told = String::from_utf8_lossy(&seen);
    assert!(told.contains("[half from-the-image /w 1000 /m]"), "{told}");
    let (_, after) = told.split_once("exit 3").expect("the shell was used");
    assert!(after.contains("error: the command ended with code 7"), "{told}");
    assert_eq!(status.code(), Some(2), "{told}");
    context.run(&["system", "fsck"]).success();
}

#[test]
fn without_a_terminal_nothing_begins() {
    let context = corten_testkit::context!();
    context.write("Dockerfile", "FROM scratch\n");
    let output = context.run(&["build", "--shell-on-error", "."]).code(2);
    let told = "error: `--shell-on-error` needs a terminal, and standard input is none";
    assert!(output.stderr().contains(told), "{}", output.stderr());
}
