//! Signals as something to read.
#![expect(unsafe_code, reason = "signal sets have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// Signals that are blocked in this thread and read from a descriptor instead.
///
/// Dropping it puts back what was blocked before.
#[derive(Debug)]
pub struct SignalReader {
    fd: OwnedFd,
    previous: SignalSet,
}

/// A set of signals; the wrapper gives it a `Debug`.
#[derive(Clone, Copy)]
struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalSet")
    }
}

impl SignalReader {
    /// Blocks the signals in the calling thread and opens a descriptor to read them from.
    ///
    /// Other threads that run already may still get them.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals);
        let previous = block(&set)?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: -1 asks for a new descriptor; the set is an initialised local and only read.
        let raw = unsafe { libc::signalfd(-1, &raw const set.0, flags) };
        if raw < 0 {
            let error = io::Error::last_os_error();
            restore(&previous);
            return Err(error);
        }
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { fd, previous })
    }

    /// Returns the next pending signal's number, if there is one.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut bytes = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut bytes) {
            Ok(_) => {
                // `ssi_signo` is the first field, an unsigned 32-bit number.
                let number = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                Ok(i32::try_from(number).ok())
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SignalReader {
    fn drop(&mut self) {
        restore(&self.previous);
    }
}

fn set_of(signals: &[i32]) -> SignalSet {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it writes a whole, empty set to the local.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialised; an impossible number is refused without effect.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: `sigemptyset` has initialised it.
    SignalSet(unsafe { set.assume_init() })
}

fn block(set: &SignalSet) -> io::Result<SignalSet> {
    let mut previous = MaybeUninit::uninit();
    // SAFETY: both point to locals, one initialised and read, the other written as a whole.
    let code =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set.0, previous.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    // SAFETY: the call has succeeded and so has written the previous mask.
    Ok(SignalSet(unsafe { previous.assume_init() }))
}

fn restore(previous: &SignalSet) {
    // SAFETY: the mask is an initialised value that we got from the kernel; with these arguments
    // the call cannot fail.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const previous.0, std::ptr::null_mut())
    };
}

/// Blocks every signal that can be blocked in the calling thread.
pub fn block_all() -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it writes a whole set to the local.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: `sigfillset` has initialised it.
    block(&SignalSet(unsafe { set.assume_init() })).map(drop)
}

/// Blocks no signal in the calling thread.
pub fn unblock_all() -> io::Result<()> {
    restore(&set_of(&[]));
    Ok(())
}

/// Puts back the default of what may be ignored in a program that was started with [`Command`]:
/// a write to a closed pipe, which Rust programs ignore, and the two signals that the C library
/// keeps to itself (32 and 33), which it does not let a new program have by default.
///
/// [`Command`]: crate::command::Command
pub fn restore_ignored() -> io::Result<()> {
    /// The kernel's `struct sigaction`: handler, flags, restorer, mask; zero is the default.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = size_of::<u64>();
    for signal in [libc::SIGPIPE, 32, 33] {
        // SAFETY: the kernel reads the structure, a constant of the size that it has on our
        // architectures, and writes nothing; the default action runs no code of ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                MASK_BYTES,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Waits for the next of all signals; they must be blocked (see [`block_all`]).
pub fn wait_any() -> io::Result<i32> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it writes a whole set to the local.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    let mut signal = 0;
    // SAFETY: the set was initialised just above; the number is written to a local.
    let code = unsafe { libc::sigwait(set.as_ptr(), &raw mut signal) };
    if code == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// What is said when a signal ends the process, by its number.
static LAST_WORDS: [OnceLock<Box<[u8]>>; 16] = [const { OnceLock::new() }; 16];

/// Says a text on standard error when a signal ends this process, which ends by it all the same: who
/// waits for it sees the signal. One that the caller lets us ignore stays ignored. The first text for
/// a signal counts; numbers from 16 on have none.
pub fn say_at_end(signal: i32, text: &[u8]) -> io::Result<()> {
    let words = usize::try_from(signal).ok().and_then(|number| LAST_WORDS.get(number));
    let words = words.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the old one, as a whole, to the local.
    let code = unsafe { libc::sigaction(signal, std::ptr::null(), before.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded and so has written it.
    let before = unsafe { before.assume_init() };
    if before.sa_sigaction == libc::SIG_IGN || words.set(text.into()).is_err() {
        return Ok(());
    }
    let handler: extern "C" fn(i32) = say_and_end;
    let action = libc::sigaction {
        sa_sigaction: handler as libc::sighandler_t,
        // Once: within the handler the signal has its default again, which ends the process.
        sa_flags: libc::SA_RESETHAND,
        ..before
    };
    // SAFETY: the action is an initialised local that is only read; its handler does nothing but what
    // a signal handler may do: it loads an atomic and calls `write` and `raise`.
    let code = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn say_and_end(signal: i32) {
    let words = usize::try_from(signal).ok().and_then(|number| LAST_WORDS.get(number)?.get());
    if let Some(words) = words {
        // SAFETY: the bytes are never changed or freed, and `write` reads as many as there are. What
        // cannot be said is not said: the process ends.
        unsafe { libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) };
    }
    // SAFETY: the signal has its default action by now, and it waits until this handler returns.
    unsafe { libc::raise(signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_and_the_mask_comes_back() {
        let before = block(&set_of(&[])).expect("the mask can be read");
        let reader = SignalReader::new(&[libc::SIGUSR2]).expect("a reader");
        assert_eq!(reader.next().expect("nothing yet"), None);
        // SAFETY: the signal is blocked in this thread, to which alone it is sent.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert_eq!(reader.next().expect("one signal"), Some(libc::SIGUSR2));
        drop(reader);
        let after = block(&set_of(&[])).expect("the mask can be read");
        let blocked = |set: &SignalSet| {
            // SAFETY: the set is initialised and only read.
            unsafe { libc::sigismember(&raw const set.0, libc::SIGUSR2) }
        };
        assert_eq!(blocked(&before), blocked(&after));
    }
}
