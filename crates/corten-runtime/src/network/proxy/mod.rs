//! Published ports without packet filter rules: a thread of the `corten` process listens on the
//! host and passes on what comes, connection by connection and datagram by datagram.
//!
//! One thread serves all ports of a container with one `epoll` loop ([`engine`]). It is started
//! after the container was, because a process with threads cannot make user namespaces.
//!
//! Where the upstream sockets are made: on the bridge network in the host's own namespace, since
//! the container's address can be reached from it; else the thread enters the container's
//! namespace for good before it makes any. The listening sockets were made before, in the host's
//! namespace, and stay there.
//!
//! The container never sees a client that seems to be itself on 127.0.0.1: there are services
//! that let in whoever comes from there without a password (CVE-2021-20199).

mod engine;
mod listen;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::JoinHandle;

use corten_sys::netlink::enter_namespace;
use rustix::event::{EventfdFlags, eventfd};

pub(super) use engine::Dial;
pub(super) use listen::{Listener, listen};

use super::NetworkError;
use super::ports::Protocol;
use engine::Engine;

/// A port that is being listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The host's address and port.
    pub host: SocketAddr,
    /// The port inside.
    pub container_port: u16,
    /// What travels.
    pub protocol: Protocol,
}

/// The running thread.
#[derive(Debug)]
pub(super) struct Proxy {
    stop: OwnedFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Proxy {
    /// Starts to accept; `namespace` is where the upstream sockets are made, if not here.
    pub(super) fn start(
        listeners: Vec<Listener>,
        dial: Dial,
        namespace: Option<OwnedFd>,
    ) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Proxy { operation: "start", source };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = eventfd(0, flags).map_err(|errno| failed(errno.into()))?;
        let stopped = stop.try_clone().map_err(failed)?;
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("corten-ports".to_owned())
            .spawn(move || {
                let prepared = prepare(listeners, dial, namespace, stopped);
                let (engine, answer) = match prepared {
                    Ok(engine) => (Some(engine), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                // Nobody waits for the answer only if the starter is gone, and then so are we.
                if ready.send(answer).is_err() {
                    return Ok(());
                }
                engine.map_or(Ok(()), Engine::run)
            })
            .map_err(failed)?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self { stop, thread }),
            Ok(Err(error)) => Err(failed(error)),
            Err(gone) => Err(failed(io::Error::other(gone))),
        }
    }

    /// Stops to accept, lets connections end that the container has ended, and waits for it.
    pub(super) fn stop(self) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::Proxy { operation: "stop", source };
        rustix::io::write(&self.stop, &1_u64.to_ne_bytes())
            .map_err(|errno| failed(errno.into()))?;
        match self.thread.join() {
            Ok(result) => result.map_err(failed),
            Err(_panic) => Err(failed(io::Error::other("the thread panicked"))),
        }
    }
}

fn prepare(
    listeners: Vec<Listener>,
    dial: Dial,
    namespace: Option<OwnedFd>,
    stop: OwnedFd,
) -> io::Result<Engine> {
    if let Some(namespace) = namespace {
        enter_namespace(namespace.as_fd())?;
    }
    Engine::new(listeners, dial, stop)
}

/// Marks a failure that is right to be passed over; where it is called, a comment says why.
fn passed_over<T>(_: &Result<T, rustix::io::Errno>) {}

#[cfg(test)]
mod tests;
