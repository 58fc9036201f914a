//! Containers that come back after a boot: the systemd unit, and the two commands that it calls.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use corten_monitor::{Definition, Restart};
use corten_store::{Container, Store};

use super::Context;
use super::life::stop_one;
use crate::cli::{ServiceArgs, StartContainersArgs, StopContainersArgs};
use crate::error::CliError;

/// How many containers are started or ended at once: enough for a start to wait for its disk or network
/// while others go on, and few enough for a machine that is just booting.
const AT_ONCE: usize = 8;

/// The name of the unit.
const UNIT: &str = "corten-containers.service";

/// `corten system service`.
pub(super) fn service(context: &Context, arguments: &ServiceArgs) -> Result<ExitCode, CliError> {
    let is_root = corten_sys::file::effective_user_id() == 0;
    let is_user = arguments.user || !is_root;
    let program = std::env::current_exe()
        .map_err(|source| corten_sys::error::IoError::new("find", "/proc/self/exe", source))?;
    let unit = unit(&program, &context.settings.root, is_user);
    let Some(path) = &arguments.write else {
        context.ui.data(&unit);
        return Ok(ExitCode::SUCCESS);
    };
    let path = if path.is_empty() { place(context, is_user) } else { PathBuf::from(path) };
    if let Some(folder) = path.parent() {
        corten_sys::file::create_dirs(folder, 0o755)?;
    }
    corten_sys::file::write_atomic(&path, unit.as_bytes(), 0o644)?;
    context.ui.done("wrote", &path.display().to_string());
    let manager = if is_user { "systemctl --user" } else { "systemctl" };
    let name = path.file_name().map_or(UNIT.into(), |name| name.to_string_lossy());
    context.ui.hint(&format!("`{manager} daemon-reload && {manager} enable --now {name}`"));
    if is_user {
        context.ui.hint("`loginctl enable-linger` lets it run without a login");
    }
    Ok(ExitCode::SUCCESS)
}

/// Where systemd looks for units that are written by hand.
fn place(context: &Context, is_user: bool) -> PathBuf {
    if !is_user {
        return Path::new("/etc/systemd/system").join(UNIT);
    }
    let environment = &context.settings.environment;
    let config = environment.path("XDG_CONFIG_HOME");
    config.unwrap_or_else(|| environment.home().join(".config")).join("systemd/user").join(UNIT)
}

/// The text of the unit.
fn unit(program: &Path, root: &Path, is_user: bool) -> String {
    let corten = format!("{} --root {}", quoted(program), quoted(root));
    let (after, wanted_by) = if is_user {
        ("", "default.target")
    } else {
        ("Wants=network-online.target\nAfter=network-online.target\n", "multi-user.target")
    };
    // A container that cannot be started is told of in the journal; were it a failure of the unit, systemd
    // would end all the others. Nor does one that runs out of memory end the unit.
    format!(
        "[Unit]\n\
         Description=Containers of Corten that run after a boot\n\
         RequiresMountsFor={store}\n\
         {after}\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=-{corten} system start-containers\n\
         ExecStop=-{corten} system stop-containers\n\
         TimeoutStartSec=15min\n\
         TimeoutStopSec=5min\n\
         Delegate=yes\n\
         OOMPolicy=continue\n\
         TasksMax=infinity\n\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n",
        store = quoted(root),
    )
}

/// A word of a unit: systemd takes quotes, backslashes, `%` and `$` apart.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(plain) {
        return text.into_owned();
    }
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' | '$' => word.extend([c, c]),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

/// What is to be done with a container after a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Start,
    Leave,
}

/// Decides by the policy whether a container comes back.
fn wish(restart: Restart, has_run: bool, was_stopped: bool) -> Wish {
    match restart {
        Restart::Always if has_run => Wish::Start,
        Restart::UnlessStopped if has_run && !was_stopped => Wish::Start,
        _ => Wish::Leave,
    }
}

/// `corten system start-containers`.
pub(super) fn start(
    context: &Context,
    arguments: &StartContainersArgs,
) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let (mut todo, mut running) = (Vec::new(), 0);
    for container in store.containers()? {
        if is_wanted(&store, &container)? {
            if container.running { running += 1 } else { todo.push(container) }
        }
    }
    todo.sort_by_key(|container| container.record.created);
    let begin = |container: &Container| begin(context, &store, container);
    // One that shares something with another can only be started after it: a second try for what failed.
    let failed: Vec<Container> =
        at_once(&todo, begin).into_iter().map(|(container, _)| container.clone()).collect();
    let failures = at_once(&failed, begin);
    for container in &todo {
        if !arguments.quiet
            && !failures.iter().any(|(failed, _)| failed.record.id == container.record.id)
        {
            context.ui.line(&container.record.name);
        }
    }
    report(context, &failures, "started");
    if !arguments.quiet {
        let started = todo.len() - failures.len();
        context.ui.status(&format!(
            "{started} containers started, {running} run already, {} could not be started",
            failures.len()
        ));
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn is_wanted(store: &Store, container: &Container) -> Result<bool, CliError> {
    let id = &container.record.id;
    let definition = match store.container_definition(id) {
        // It has been removed meanwhile.
        Err(corten_store::StoreError::Io(error)) if error.is_not_found() => return Ok(false),
        definition => Definition::decode(&definition?)?,
    };
    let has_run = container.state.started.is_some();
    Ok(wish(definition.restart, has_run, store.was_stopped(id)?) == Wish::Start)
}

fn begin(context: &Context, store: &Store, container: &Container) -> Result<(), CliError> {
    match store.take_container(&container.record.id) {
        // Somebody was faster.
        Err(corten_store::StoreError::ContainerRuns { .. }) => Ok(()),
        taken => {
            let begun = corten_monitor::start(&context.settings.root, taken?, None)?;
            for warning in &begun.warnings {
                context.ui.warning(&format!("container `{}`: {warning}", container.record.name));
            }
            Ok(())
        }
    }
}

/// `corten system stop-containers`.
pub(super) fn stop(
    context: &Context,
    arguments: &StopContainersArgs,
) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let mut running = store.containers()?;
    running.retain(|container| container.running);
    // The newest first: it may need the older ones to end well.
    running.sort_by_key(|container| std::cmp::Reverse(container.record.created));
    let end = |container: &Container| stop_one(&store, container, None, arguments.time);
    let failures = at_once(&running, end);
    report(context, &failures, "ended");
    if !arguments.quiet {
        context.ui.status(&format!("{} containers ended", running.len() - failures.len()));
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn report(context: &Context, failures: &[(&Container, CliError)], what: &str) {
    for (container, error) in failures {
        context.ui.warning(&format!("container `{}` could not be {what}", container.record.name));
        context.ui.error(error.error.as_ref(), &error.hints);
    }
}

/// Does something with several containers at once, begun in their order; returns what failed.
fn at_once(
    containers: &[Container],
    act: impl Fn(&Container) -> Result<(), CliError> + Sync,
) -> Vec<(&Container, CliError)> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(containers.len()) {
            scope.spawn(|| {
                while let Some(container) = containers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = act(container) {
                        let mut failures =
                            failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failures.push((container, error));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_unit_starts_and_ends_containers() {
        let unit = unit(Path::new("/usr/bin/corten"), Path::new("/var/lib/corten"), false);
        expect![[r#"
            [Unit]
            Description=Containers of Corten that run after a boot
            RequiresMountsFor=/var/lib/corten
            Wants=network-online.target
            After=network-online.target

            [Service]
            Type=oneshot
            RemainAfterExit=yes
            ExecStart=-/usr/bin/corten --root /var/lib/corten system start-containers
            ExecStop=-/usr/bin/corten --root /var/lib/corten system stop-containers
            TimeoutStartSec=15min
            TimeoutStopSec=5min
            Delegate=yes
            OOMPolicy=continue
            TasksMax=infinity

            [Install]
            WantedBy=multi-user.target
        "#]]
        .assert_eq(&unit);
    }

    #[test]
    fn a_users_unit_needs_no_network_and_odd_paths_are_quoted() {
        let unit = unit(Path::new("/opt/my tools/corten"), Path::new("/home/u/100%"), true);
        assert!(
            unit.contains("ExecStart=-\"/opt/my tools/corten\" --root \"/home/u/100%%\" system")
        );
        assert!(unit.ends_with("WantedBy=default.target\n") && !unit.contains("network"), "{unit}");
    }

    #[test]
    fn policies_decide_what_comes_back() {
        let table = [
            // policy, was it ever started, was it stopped by a person
            (Restart::Always, true, false, Wish::Start),
            (Restart::Always, true, true, Wish::Start),
            (Restart::Always, false, false, Wish::Leave),
            (Restart::UnlessStopped, true, false, Wish::Start),
            (Restart::UnlessStopped, true, true, Wish::Leave),
            (Restart::UnlessStopped, false, false, Wish::Leave),
            (Restart::OnFailure { max: None }, true, false, Wish::Leave),
            (Restart::No, true, false, Wish::Leave),
        ];
        for (restart, has_run, was_stopped, expected) in table {
            assert_eq!(
                wish(restart, has_run, was_stopped),
                expected,
                "{restart:?} {has_run} {was_stopped}"
            );
        }
    }
}
