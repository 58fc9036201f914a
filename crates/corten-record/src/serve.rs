//! Connections: who is spoken to, and over what.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use crate::address::{Origin, split};
use crate::exchange::{self, After, Asked};
use crate::http::{Connection, Framing, Request, RequestError, write_head};
use crate::recorder::StepState;

/// How many connections a step may have at a time: package managers have some dozen.
const CONNECTIONS_MAX: u32 = 512;

/// A connection that is silent for so long is closed; its client opens another one.
const SILENCE: Duration = Duration::from_mins(10);

/// The stack of a thread; what is large is on the heap.
const STACK_BYTES: usize = 512 * 1024;

/// Starts to accept.
pub(crate) fn start(listener: TcpListener, state: Arc<StepState>) -> std::io::Result<()> {
    let accept = move || {
        let count = Arc::new(AtomicU32::new(0));
        // The socket is shut down when the step has ended, and then gives an error.
        while let Ok((stream, _)) = listener.accept() {
            let seat = Seat::take(&count);
            if state.is_stopped() {
                break;
            }
            // A connection that is dropped is closed: its client sees that there are too many.
            let Some(seat) = seat else { continue };
            let state = Arc::clone(&state);
            let serve = move || {
                connection(stream, &state);
                drop(seat);
            };
            let thread = std::thread::Builder::new().name("corten-record".to_owned());
            if thread.stack_size(STACK_BYTES).spawn(serve).is_err() {
                // The connection went with the closure; the next one may have a thread.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    };
    std::thread::Builder::new().name("corten-record".to_owned()).spawn(accept)?;
    Ok(())
}

/// Ends the thread that accepts.
pub(crate) fn stop(listener: &TcpListener) {
    // One that is not connected says so, and is shut down all the same.
    rustix::net::shutdown(listener, rustix::net::Shutdown::Both).unwrap_or_default();
}

/// One of the connections that a step may have.
struct Seat(Arc<AtomicU32>);

impl Seat {
    fn take(count: &Arc<AtomicU32>) -> Option<Self> {
        let seat = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn connection(stream: TcpStream, state: &Arc<StepState>) {
    // Sockets of a thread of ours have both; without them a connection is slower, or stays.
    stream.set_nodelay(true).unwrap_or_default();
    stream.set_read_timeout(Some(SILENCE)).unwrap_or_default();
    stream.set_write_timeout(Some(SILENCE)).unwrap_or_default();
    let mut connection = Connection::new(stream);
    if let Ended::Tunnel(origin) = plain(&mut connection, state) {
        let Some(stream) = connection.into_stream() else { return };
        tunnel(stream, &origin, state);
    }
}

/// How a connection without TLS ended.
enum Ended {
    Closed,
    /// It goes on over TLS, in the name of a server.
    Tunnel(Origin),
}

fn plain(connection: &mut Connection<TcpStream>, state: &Arc<StepState>) -> Ended {
    loop {
        let Some(request) = next(connection, state) else { return Ended::Closed };
        if request.method == "CONNECT" {
            let Some(origin) = Origin::parse(&request.target, true) else {
                refuse(connection.stream(), 400, "this is no address of a server");
                return Ended::Closed;
            };
            let answered = write_head(connection.stream(), 200, &[], Framing::Nothing, true);
            return if answered.is_ok() { Ended::Tunnel(origin) } else { Ended::Closed };
        }
        let Some((origin, path)) = split(&request.target) else {
            let text = "this is the proxy of a build step: ask with the whole address";
            refuse(connection.stream(), 400, text);
            return Ended::Closed;
        };
        let asked = Asked { request: &request, url: origin.url(&path) };
        if !goes_on(&exchange::answer(&asked, connection.stream(), state)) {
            return Ended::Closed;
        }
    }
}

fn goes_on(after: &std::io::Result<After>) -> bool {
    matches!(after, Ok(After::KeepAlive))
}

/// Speaks TLS as the server that was asked for.
fn tunnel(stream: TcpStream, origin: &Origin, state: &Arc<StepState>) {
    let server = match state.shared.authority.server(origin.name()) {
        Ok(server) => server,
        Err(error) => {
            state.failed(format!("no certificate for `{}`: {error}", origin.name()));
            return;
        }
    };
    let Ok(session) = ServerConnection::new(server) else { return };
    let mut stream = StreamOwned::new(session, stream);
    if let Err(error) = handshake(&mut stream) {
        let url = origin.url("");
        state.failed(format!("the connection to `{url}` could not be recorded: {error}"));
        return;
    }
    let mut connection = Connection::new(stream);
    while let Some(request) = next(&mut connection, state) {
        // Some clients repeat the whole address within the tunnel.
        let path = match split(&request.target) {
            Some((_, path)) => path,
            None if request.target.starts_with('/') => request.target.clone(),
            None => {
                refuse(connection.stream(), 400, "this is no path on a server");
                return;
            }
        };
        let asked = Asked { request: &request, url: origin.url(&path) };
        if !goes_on(&exchange::answer(&asked, connection.stream(), state)) {
            // An end that is not announced tells that something is missing.
            return;
        }
    }
    let stream = connection.stream();
    stream.conn.send_close_notify();
    // The client may be gone; nobody waits for this.
    stream.flush().unwrap_or_default();
    stream.sock.shutdown(Shutdown::Write).unwrap_or_default();
}

fn handshake(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
    while stream.conn.is_handshaking() {
        let (read, written) = stream.conn.complete_io(&mut stream.sock)?;
        if read == 0 && written == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
    }
    Ok(())
}

/// Reads the next request; what is none is answered with a refusal.
fn next<S: Read + Write>(connection: &mut Connection<S>, state: &StepState) -> Option<Request> {
    match connection.request() {
        Ok(request) => request,
        Err(RequestError::Refused(status, text)) => {
            state.failed(format!("a request was refused: {text}"));
            refuse(connection.stream(), status, text);
            None
        }
        Err(RequestError::Io(_)) => None,
    }
}

fn refuse(out: &mut dyn Write, status: u16, text: &str) {
    // A client that does not read the refusal has closed the connection.
    exchange::plain_text(out, status, text, false).unwrap_or_default();
}
