//! Questions over TCP: for answers that are too long for a datagram. A thread for each connection, of which
//! there are few, and none for long.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Answers, Limit, Reply, STACK_BYTES, codec};

/// Connections at a time; a program that opens more is turned away.
const CONNECTIONS_MAX: usize = 16;

/// Questions over one connection.
const QUERIES_MAX: usize = 64;

/// How long a connection may stand still.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// After a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(10);

/// The connections that there are.
#[derive(Debug, Default)]
pub(super) struct Connections {
    count: Arc<AtomicUsize>,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// Takes the connections that wait. One for which there is no room is closed.
    pub(super) fn accept(&self, listener: &TcpListener, answers: &Arc<Answers>) {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // There are no more descriptors, say: it is not asked again at once.
                Err(_) => return std::thread::sleep(PAUSE),
            };
            let before = self.count.fetch_add(1, Ordering::Relaxed);
            let counted = Counted(self.count.clone());
            if before >= CONNECTIONS_MAX {
                continue;
            }
            let answers = answers.clone();
            let serve = move || {
                let _counted = counted;
                serve(stream, &answers).unwrap_or_default();
            };
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            // The count goes down with what was to be run.
            drop(thread.name("corten-names".to_owned()).spawn(serve));
        }
    }
}

fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    // The listener's way of not waiting is not handed down on every system.
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    for _ in 0..QUERIES_MAX {
        let query = receive(&mut stream)?;
        let answer = match answers.reply(&query, Limit::Stream) {
            Reply::Now(answer) => answer,
            Reply::Ask(upstreams) => ask(&query, &upstreams),
            Reply::Never => return Ok(()),
        };
        transmit(&mut stream, &answer)?;
    }
    Ok(())
}

/// Asks one server after the other.
fn ask(query: &[u8], upstreams: &[SocketAddr]) -> Vec<u8> {
    let answer = upstreams.iter().find_map(|server| ask_one(query, *server).ok());
    answer.unwrap_or_else(|| codec::refuse(query, codec::SERVER_FAILURE))
}

fn ask_one(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    transmit(&mut stream, query)?;
    let answer = receive(&mut stream)?;
    if codec::is_answer_to(&answer, query) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Reads a message with its length before it.
fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn transmit(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes)
}
