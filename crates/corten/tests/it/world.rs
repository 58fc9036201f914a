//! Images for tests, made of the programs of this machine.

use corten_testkit::{TestContext, rootfs};

/// The programs that containers of tests start. What other builders made of them is recorded: a program
/// for a test of something else belongs to [`FURTHER`].
const PROGRAMS: [&str; 21] = [
    "cat", "chmod", "chown", "cp", "env", "grep", "head", "id", "ln", "ls", "mkdir", "mkfifo",
    "mknod", "mv", "pwd", "rm", "sleep", "sort", "tail", "touch", "true",
];

/// What only some tests need.
const FURTHER: [&str; 3] = ["bash", "getent", "timeout"];

/// A context whose work directory has `base/`: a Dockerfile and a small root file system.
pub(crate) fn with_root_files() -> TestContext {
    let context = corten_testkit::context!();
    context.write("base/Dockerfile", "FROM scratch\nCOPY root /\nCMD [\"sh\"]\n");
    rootfs::make(&context.work_dir().join("base/root"), &PROGRAMS);
    context
}

/// A context whose store has the image `base`, with a shell in it.
pub(crate) fn with_base() -> TestContext {
    let context = with_root_files();
    context.run(&["build", "--quiet", "-t", "base", "base"]).success();
    context
}

/// The same with further programs in the image.
pub(crate) fn with_further_programs() -> TestContext {
    let context = with_root_files();
    rootfs::make(&context.work_dir().join("base/root"), &FURTHER);
    context.run(&["build", "--quiet", "-t", "base", "base"]).success();
    context
}

/// A context whose store has the image `data`: two layers and no program.
pub(crate) fn with_data() -> TestContext {
    let context = corten_testkit::context!();
    context.write("data/model.bin", vec![7; 5000]);
    context.write("data/notes.txt", "notes\n");
    context.write(
        "data/Dockerfile",
        "FROM scratch\n\
         LABEL owner=\"data team\"\n\
         COPY model.bin /models/\n\
         COPY --chown=1000:1000 notes.txt /\n\
         ENV MODE=test\n\
         ENTRYPOINT [\"/serve\"]\n",
    );
    context.run(&["build", "--quiet", "-t", "data:v1", "data"]).success();
    context
}
