//! Entry points for fuzzing: each takes any bytes, may refuse them, and must not panic.

use std::io::{self, Read, Write};

use crate::address::{Origin, recorded_url, split};
use crate::http::{Connection, Framing, Request, RequestError, range, write_head};

/// Reads the requests of a connection. How their bytes arrive changes nothing, and what is read of
/// them can be written into the head of an answer without becoming a line of its own.
pub fn request(bytes: &[u8]) {
    let whole = read(bytes, usize::MAX);
    assert!(whole == read(bytes, 7), "a request depends on how it arrives");
    for request in whole.iter().filter_map(Option::as_ref) {
        if let Some(origin) = Origin::parse(&request.target, true) {
            assert_eq!(split(&origin.url("/")), Some((origin, "/".to_owned())));
        }
        if let Some(value) = request.header("range")
            && let Ok(Some((first, last))) = range(value, 1000)
        {
            assert!(first <= last && last < 1000, "a range outside of the content");
        }
        let mut head = Vec::new();
        write_head(&mut head, 200, &request.headers, Framing::Nothing, true)
            .expect("memory takes all bytes");
        let mut lines = vec![httparse::EMPTY_HEADER; request.headers.len()];
        let mut answer = httparse::Response::new(&mut lines);
        let parsed = answer.parse(&head);
        assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "a head with more in it");
    }
}

/// Reads an address; what is recorded of it stays the same when it is recorded again.
pub fn address(text: &str) {
    let recorded = recorded_url(text);
    assert_eq!(recorded_url(&recorded), recorded, "another address when recorded again");
    if let Some((origin, path)) = split(text) {
        assert_eq!(split(&origin.url(&path)), Some((origin, path)), "another server or path");
    }
}

/// The requests, and `None` at the end if it was no regular one.
fn read(bytes: &[u8], at_once: usize) -> Vec<Option<Request>> {
    let mut connection = Connection::new(Client { bytes, at_once });
    let mut requests = Vec::new();
    loop {
        match connection.request() {
            Ok(Some(request)) => requests.push(Some(request)),
            Ok(None) => return requests,
            Err(RequestError::Io(_) | RequestError::Refused(..)) => {
                requests.push(None);
                return requests;
            }
        }
    }
}

/// Sends bytes, and takes no notice of answers.
struct Client<'a> {
    bytes: &'a [u8],
    at_once: usize,
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len().min(self.at_once);
        self.bytes.read(buffer.get_mut(..size).unwrap_or_default())
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use corten_testkit::mutations;

    #[test]
    fn requests_that_are_nearly_right_never_panic() {
        let head = "POST http://a.test:8080/x?y=z HTTP/1.1\r\nHost: a.test\r\nRange: bytes=1-5\r\n";
        for rest in [
            "Content-Length: 3\r\n\r\nabcGET",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ] {
            mutations(format!("{head}{rest}").as_bytes(), super::request);
        }
    }

    #[test]
    fn addresses_that_are_nearly_right_never_panic() {
        for address in ["https://u:p@a.test:8443/x/../y?token=a&b#c", "http://[::1]/%41?sig=a&se=b"]
        {
            mutations(address.as_bytes(), |bytes| super::address(&String::from_utf8_lossy(bytes)));
        }
    }
}
