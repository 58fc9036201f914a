use corten_testkit::TempDir;

use super::register::Line;
use super::*;

/// What the kernel shows after Debian's registration.
const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POF\n\
     offset 0\nmagic 7f454c460201010000000000000000000200b700\n\
     mask ffffffffffffff00fffffffffffffffffeffffff\n";

/// Debian's line for it.
const LINE: &str = r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/libexec/qemu-binfmt/aarch64-binfmt-P:OPF";

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn with(text: &str) -> Emulation {
    let emulators = vec![Emulator::parse("qemu-aarch64", text).unwrap()];
    Emulation { mounted: true, enabled: true, emulators }
}

fn reason(emulation: &Emulation, platform: &str) -> String {
    let platform = platform.parse().unwrap();
    match emulation.execution(&amd64(), &platform) {
        Ok(execution) => format!("{execution:?}"),
        Err(error) => format!("{error}\n  {}", error.hint()),
    }
}

#[test]
fn an_emulator_that_is_open_already_executes_programs_of_its_processor_alone() {
    let emulation = with(AARCH64);
    let found = emulation.execution(&amd64(), &"linux/arm64".parse().unwrap());
    let interpreter = PathBuf::from("/usr/libexec/qemu-binfmt/aarch64-binfmt-P");
    assert_eq!(found, Ok(Execution::Emulated { interpreter }));
    for other in ["linux/arm/v7", "linux/s390x", "linux/riscv64", "linux/ppc64le", "linux/nonsense"]
    {
        let found = emulation.execution(&amd64(), &other.parse().unwrap());
        assert_eq!(found.unwrap_err().reason, Obstacle::NoEmulator, "{other}");
    }
}

#[test]
fn the_own_processor_needs_nobody_and_its_32_bit_half_is_refused() {
    let nothing = Emulation::default();
    let found = |text: &str| nothing.execution(&amd64(), &text.parse().unwrap());
    assert_eq!(found("linux/amd64"), Ok(Execution::Native));
    assert_eq!(found("linux/amd64/v3"), Ok(Execution::Native));
    assert_eq!(found("linux/386").unwrap_err().reason, Obstacle::Half);
    assert_eq!(found("windows/amd64").unwrap_err().reason, Obstacle::System);
    let unknown = Platform::new("", "", None);
    assert_eq!(nothing.execution(&amd64(), &unknown), Ok(Execution::Native));
}

#[test]
fn what_is_in_the_way_is_told_with_its_remedy() {
    let shown = [
        reason(&Emulation::default(), "linux/arm64"),
        reason(&Emulation { mounted: true, enabled: true, emulators: vec![] }, "linux/arm64"),
        reason(&Emulation { enabled: false, ..with(AARCH64) }, "linux/arm64"),
        reason(&with(&AARCH64.replace("enabled", "disabled")), "linux/arm64"),
        reason(&with(&AARCH64.replace("POF", "PO")), "linux/arm64"),
    ];
    expect_test::expect![[r#"
        this machine (linux/amd64) cannot execute programs of `linux/arm64`: `/proc/sys/fs/binfmt_misc` is not mounted, so there is no emulator
          as root: `apt-get install qemu-user-static`, then `corten system emulation --register`
        this machine (linux/amd64) cannot execute programs of `linux/arm64`: no emulator is registered for them
          as root: `apt-get install qemu-user-static`, then `corten system emulation --register`
        this machine (linux/amd64) cannot execute programs of `linux/arm64`: `/proc/sys/fs/binfmt_misc/status` says `disabled`
          as root: `echo 1 > /proc/sys/fs/binfmt_misc/status`
        this machine (linux/amd64) cannot execute programs of `linux/arm64`: the emulator `qemu-aarch64` is switched off
          as root: `echo 1 > /proc/sys/fs/binfmt_misc/qemu-aarch64`
        this machine (linux/amd64) cannot execute programs of `linux/arm64`: the emulator `qemu-aarch64` is registered without the flag `F`, so `/usr/libexec/qemu-binfmt/aarch64-binfmt-P` would have to be in the image
          as root: `corten system emulation --register`"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn a_second_emulator_that_is_ready_counts_before_one_that_is_not() {
    let mut emulation = with(&AARCH64.replace("POF", ""));
    emulation.emulators.push(Emulator::parse("other", AARCH64).unwrap());
    assert!(emulation.execution(&amd64(), &"linux/arm64".parse().unwrap()).is_ok());
}

#[test]
fn the_kernels_list_is_read_and_what_is_no_emulator_is_passed_over() {
    let scratch = TempDir::new();
    let write = |name: &str, text: &str| {
        file::write_atomic(&scratch.path().join(name), text.as_bytes(), 0o644).unwrap();
    };
    assert_eq!(Emulation::gather_from(scratch.path()).unwrap(), Emulation::default());
    write("status", "enabled\n");
    write("register", "");
    write("qemu-aarch64", AARCH64);
    write("by-name", "enabled\ninterpreter /bin/x\nflags: \nextension .x\n");
    write("odd", "enabled\ninterpreter /bin/x\nflags: \noffset 0\nmagic 7f4\n");
    let found = Emulation::gather_from(scratch.path()).unwrap();
    assert_eq!(found, with(AARCH64));
}

#[test]
fn lines_of_packages_are_read_and_get_the_flag_that_containers_need() {
    let line = Line::parse(LINE).unwrap();
    assert_eq!((line.name.as_str(), line.flags.as_str()), ("qemu-aarch64", "OPF"));
    assert_eq!(line.text, LINE);
    let line = Line::parse(&LINE.replace("OPF", "")).unwrap();
    assert_eq!(line.flags, "F");
    assert!(line.text.ends_with("binfmt-P:F"), "{}", line.text);
    for text in [
        "",
        "# comment",
        "; x",
        ":a:E::py::/usr/bin/python:",
        ":a:M::\\x7:\\xff:/x:",
        ":a/b:M::x:x:/x:",
    ] {
        assert_eq!(Line::parse(text), None, "{text}");
    }
}

#[test]
fn no_two_architectures_have_the_same_header() {
    let headers: std::collections::BTreeSet<_> =
        MACHINES.iter().map(|(name, ..)| elf_header(name).unwrap()).collect();
    assert_eq!(headers.len(), MACHINES.len());
}
