//! Terminals: raw mode that is always taken back, sizes, and new pairs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

/// A terminal in raw mode; dropping it brings the former mode back.
#[derive(Debug)]
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    former: Termios,
}

impl<'a> RawMode<'a> {
    /// Puts the terminal into raw mode.
    pub fn enter(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let former = rustix::termios::tcgetattr(terminal)?;
        let mut raw = former.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, former })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that is gone has no mode to bring back, and there is nobody to tell.
        rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.former)
            .unwrap_or_default();
    }
}

/// Returns true if the descriptor is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

/// Returns rows and columns.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets rows and columns; the foreground processes get SIGWINCH.
pub fn set_size(terminal: BorrowedFd<'_>, (rows, columns): (u16, u16)) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Opens a new terminal through a `ptmx` node: the controlling side and the program's side.
pub fn open_pair(ptmx: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(ptmx, flags, Mode::empty())?;
    let slave = open_other_side(master.as_fd())?;
    Ok((master, slave))
}

/// Opens the program's side of a new terminal.
pub fn open_other_side(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}

/// Makes a terminal the one that Ctrl-C of this session comes from. The caller leads a session.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let (_master, slave) = open_pair(Path::new("/dev/ptmx")).expect("a terminal");
        let flags = |fd: &OwnedFd| rustix::termios::tcgetattr(fd).expect("a mode").local_modes;
        let before = flags(&slave);
        let raw = RawMode::enter(slave.as_fd()).expect("raw");
        assert_ne!(flags(&slave), before);
        drop(raw);
        assert_eq!(flags(&slave), before);
    }

    #[test]
    fn a_terminal_keeps_the_size_that_it_was_given() {
        let (master, slave) = open_pair(Path::new("/dev/ptmx")).expect("a terminal");
        set_size(master.as_fd(), (33, 99)).expect("set");
        assert_eq!(size(slave.as_fd()).expect("read"), (33, 99));
    }
}
