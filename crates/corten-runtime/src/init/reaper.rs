//! The process 1 of `--init`: passes signals on and reaps what others leave behind.

use std::io;

use corten_sys::process::{self, CloneOptions, Cloned};
use corten_sys::signals;
use rustix::process::{Pid, Signal, WaitOptions};

/// Splits into process 1, which gets the number of its child, and the child, which goes on.
pub(super) fn split(terminal: bool) -> io::Result<Option<u32>> {
    signals::block_all()?;
    if std::process::id() != 1 {
        // Among the processes of others, what is left behind would be theirs to reap.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    match process::clone(CloneOptions::default())? {
        Cloned::Parent { pid } => Ok(Some(pid)),
        Cloned::Child => {
            // A group of its own: Ctrl-C reaches it once, not a second time through process 1.
            rustix::process::setpgid(None, None)?;
            if terminal {
                let group = rustix::process::getpgrp();
                rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group)?;
            }
            signals::unblock_all()?;
            Ok(None)
        }
    }
}

/// Reaps and passes signals on until the program ends; returns its exit code.
pub(super) fn reap(program: u32) -> i32 {
    let program = i32::try_from(program).ok().and_then(Pid::from_raw);
    loop {
        let Ok(signal) = signals::wait_any() else { return 125 };
        if signal == libc::SIGCHLD {
            if let Some(code) = reap_all(program) {
                return code;
            }
        } else if let (Some(program), Some(signal)) = (program, Signal::from_named_raw(signal)) {
            // A program that has just ended takes no signal; its end comes next.
            rustix::process::kill_process(program, signal).unwrap_or_default();
        }
    }
}

fn reap_all(program: Option<Pid>) -> Option<i32> {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(pid) == program {
            let signal = status.terminating_signal().map(|signal| 128 + signal);
            return Some(status.exit_status().or(signal).unwrap_or(125));
        }
    }
    None
}
