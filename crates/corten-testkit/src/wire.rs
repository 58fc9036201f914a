//! A server in the test's own process that answers with whatever bytes it is told, however wrong.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::registry::{Asked, read};

/// What goes over the wire in answer to a request; the connection ends with it.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, and then others again and again until nobody listens.
    Endless(Vec<u8>, Vec<u8>),
}

/// A server that listens on this machine until the test ends.
#[derive(Debug, Clone)]
pub struct Wire {
    /// `127.0.0.1:PORT`.
    pub host: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Wire {
    /// Starts one; the number counts the requests from 0.
    pub fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a loopback");
        let address = listener.local_addr().expect("a listener has an address");
        let wire = Self { host: address.to_string(), log: Arc::default() };
        let (serving, answer) = (wire.clone(), Arc::new(answer));
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serving, answer) = (serving.clone(), Arc::clone(&answer));
                std::thread::spawn(move || serving.serve(stream, answer.as_ref()));
            }
        });
        wire
    }

    /// What it was asked so far.
    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, stream: TcpStream, answer: &(dyn Fn(&Asked, usize) -> Reply + Send + Sync)) {
        let Ok(mut out) = stream.try_clone() else { return };
        let Some(asked) = read(&mut BufReader::new(stream)) else { return };
        let number = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(asked.clone());
            log.len() - 1
        };
        match answer(&asked, number) {
            // Who asked may have gone, which is no matter of the server.
            Reply::Bytes(bytes) => drop(out.write_all(&bytes)),
            Reply::Endless(bytes, again) => {
                let mut sent = out.write_all(&bytes);
                while sent.is_ok() {
                    sent = out.write_all(&again);
                }
            }
        }
    }
}

/// An answer as it should be: `head` is the status, and headers with a line feed after each.
pub fn reply(status: u16, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let headers = headers.replace('\n', "\r\n");
    let head = format!(
        "HTTP/1.1 {status} x\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    Reply::Bytes([head.as_bytes(), body].concat())
}
