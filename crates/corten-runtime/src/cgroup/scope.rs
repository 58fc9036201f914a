//! Control groups for an ordinary user, from the user's service manager.
//!
//! The group in which a login runs belongs to the system, and one that has processes cannot pass
//! controllers on. systemd's manager of the user makes a group for whoever asks, a *scope*:
//!
//! ```text
//! …/user@1000.service/user.slice/corten-<id>-<pid>.scope/    ours to divide
//!     caller/             this process
//!     corten/<id>.<pid>/  the container
//! ```
//!
//! It goes when the last process in it has ended.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::error::IoError;
use corten_sys::file;

use super::dbus::{self, Body, Call};
use super::facts::{Manager, own_group};

/// How long the manager may take; it answers in a few milliseconds unless the machine is overloaded.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(1);

const PREFIX: &str = "corten-";
const SUFFIX: &str = ".scope";

/// The group of the process that asked, in its scope.
const CALLER: &str = "caller";

/// Returns the socket on which the service manager of a user listens.
pub(super) fn manager(user: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{user}/systemd/private"))
}

/// Returns the group of the service manager of a user.
pub(super) fn group_of_manager(mount: &Path, user: u32) -> PathBuf {
    mount.join(format!("user.slice/user-{user}.slice/user@{user}.service"))
}

/// Returns the scope of ours that this process is in, if it is in one.
pub(super) fn current() -> Result<Option<PathBuf>, IoError> {
    Ok(scope_of(&own_group()?))
}

/// Returns the scope of ours in which a process with this group is.
fn scope_of(group: &Path) -> Option<PathBuf> {
    let scope = group.parent().filter(|_| group.ends_with(CALLER))?;
    let name = scope.file_name()?.to_str()?;
    (name.starts_with(PREFIX) && name.ends_with(SUFFIX)).then(|| scope.to_owned())
}

/// Moves this process into a scope of its own, unless it is in one, and returns that.
pub(super) fn enter(manager: &Manager, id: &str) -> Result<PathBuf, IoError> {
    if let Some(scope) = current()? {
        return Ok(scope);
    }
    let pid = std::process::id();
    let short = id.get(..12).unwrap_or(id);
    let name = format!("{PREFIX}{short}-{pid}{SUFFIX}");
    let failed =
        |error: io::Error| IoError::new("ask for a control group at", &manager.socket, error);
    request(manager, &name, pid).map_err(failed)?;
    let scope = wait_for(&name)?.ok_or_else(|| failed(io::ErrorKind::TimedOut.into()))?;
    let caller = scope.join(CALLER);
    file::create_dir(&caller, 0o755)?;
    super::live::write(&caller.join("cgroup.procs"), &pid.to_string())?;
    Ok(scope)
}

fn request(manager: &Manager, name: &str, pid: u32) -> io::Result<()> {
    let mut stream = UnixStream::connect(&manager.socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    dbus::authenticate(&mut stream, manager.user)?;
    let call = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StartTransientUnit",
        signature: "ssa(sv)a(sa(sv))",
    };
    let mut body = Body::default();
    body.text(name);
    body.text("fail");
    body.array(8, |properties| {
        let text = |value: &'static str| move |body: &mut Body| body.text(value);
        properties.property("Description", "s", text("A container of corten"));
        properties.property("Slice", "s", text("user.slice"));
        properties.property("Delegate", "b", |body| body.number(1));
        properties.property("CollectMode", "s", text("inactive-or-failed"));
        properties.property("PIDs", "au", |body| body.array(4, |pids| pids.number(pid)));
    });
    body.array(8, |_| {});
    dbus::call(&mut stream, call, &body)
}

/// Waits until this process is in the scope, which the manager does after it has answered.
fn wait_for(name: &str) -> Result<Option<PathBuf>, IoError> {
    let until = SystemClock.monotonic() + PATIENCE;
    loop {
        let group = own_group()?;
        if group.ends_with(name) {
            return Ok(Some(group));
        }
        if SystemClock.monotonic() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_known_by_its_name() {
        let scope = |path: &str| scope_of(Path::new(path));
        let ours = "/g/user.slice/corten-0123-7.scope";
        assert_eq!(scope(&format!("{ours}/caller")), Some(PathBuf::from(ours)));
        assert_eq!(scope(ours), None);
        assert_eq!(scope("/g/session-1.scope/caller"), None);
        assert_eq!(scope("/"), None);
    }
}
