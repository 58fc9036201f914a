//! What `docker build` can say of RUN steps.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use crate::world::with_base;

#[test]
fn hosts_limits_and_shared_memory_reach_a_step_and_not_the_image() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write(
        "Dockerfile",
        "FROM base\nRUN head -n 9 /etc/hosts; ulimit -n; ulimit -c; \\\n  \
         while read -r a; do case $a in *\" /dev/shm \"*) echo \"$a\";; esac; done </proc/mounts\n",
    );
    let plain = ["build", "-q", "--network=none", "."];
    let flags = [
        "--add-host=models.test:10.0.0.7",
        "--shm-size=3m",
        "--ulimit=nofile=123:456",
        "--ulimit=core=0",
        "--rm=false",
        "--force-rm",
        "--compress",
    ];
    let output =
        context.run(&[&["image", "build", "--network=none", "."][..], &flags].concat()).success();
    let told = output.stderr();
    for text in ["10.0.0.7\tmodels.test", " 123\n", " 0\n", "size=3072k"] {
        assert!(told.contains(text), "{text:?}: {told}");
    }
    // A name may change what a step does, a limit may not.
    let of = |arguments: &[&str]| {
        let output =
            context.run(&[&["builder", "build", "--network=none", "."], arguments].concat());
        output.success().stderr().matches("CACHED").count()
    };
    assert_eq!(of(&["--add-host=models.test=10.0.0.7", "--shm-size=4m"]), 1);
    assert_eq!(of(&["--add-host=models.test=10.0.0.8"]), 0);
    let with = context.run(&[&plain[..], &flags].concat()).success();
    let without = context.run(&plain).success();
    assert_eq!(with.stdout(), without.stdout());
}

#[test]
fn a_flag_without_an_effect_says_so() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("Dockerfile", "FROM base\nENV A=1\n");
    let output = context.run(&["build", "--squash", "--cgroup-parent=x", "."]).success();
    let told = output.stderr();
    assert!(told.contains("warning: `--squash` does nothing"), "{told}");
    assert!(told.contains("warning: `--cgroup-parent` does nothing"), "{told}");
}
