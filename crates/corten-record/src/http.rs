//! What is needed of HTTP/1.1 on the side of the server.

use std::io::{self, Read, Write};

use crate::address::decimal;

/// The largest head of a request; servers allow between 8 KiB and 64 KiB.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// As many header lines as common servers allow.
const HEADERS_MAX: usize = 128;

/// The largest body of a request: it is kept in memory. Questions of package managers and of git
/// have some hundred KiB at most.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// The longest line that tells the size of a chunk.
const CHUNK_LINE_BYTES_MAX: usize = 4096;

/// A request whose body is there as well.
#[derive(PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it stands in the first line.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) keep_alive: bool,
    /// Whether the client understands chunks.
    pub(crate) understands_chunks: bool,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The status to answer with, and what is wrong.
    #[error("{1}")]
    Refused(u16, &'static str),
}

const HEAD_TOO_LARGE: RequestError =
    RequestError::Refused(431, "the head of the request is too large");

const LINE_TOO_LONG: RequestError = RequestError::Refused(400, "a line between chunks is too long");

/// A connection with what was read from it and not used yet.
pub(crate) struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The bare connection, if nothing was sent ahead.
    pub(crate) fn into_stream(self) -> Option<S> {
        self.buffer.is_empty().then_some(self.stream)
    }

    /// Reads a request; `None` if the client has ended the connection.
    pub(crate) fn request(&mut self) -> Result<Option<Request>, RequestError> {
        loop {
            if let Some(mut request) = self.head()? {
                request.body = self.body(&request)?;
                return Ok(Some(request));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(HEAD_TOO_LARGE);
            }
            if self.fill()? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn head(&mut self) -> Result<Option<Request>, RequestError> {
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut lines);
        let status = parsed
            .parse(&self.buffer)
            .map_err(|_| RequestError::Refused(400, "the request is not understood"))?;
        let httparse::Status::Complete(length) = status else { return Ok(None) };
        if length > HEAD_BYTES_MAX {
            return Err(HEAD_TOO_LARGE);
        }
        let is_1_1 = parsed.version == Some(1);
        let mut headers = Vec::new();
        for line in parsed.headers.iter() {
            // A value that is no text is one of no header that matters here.
            if let Ok(value) = std::str::from_utf8(line.value) {
                headers.push((line.name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let mut request = Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers,
            body: Vec::new(),
            keep_alive: is_1_1,
            understands_chunks: is_1_1,
        };
        let closes = |name| request.header(name).is_some_and(|text| has_token(text, "close"));
        if closes("connection") || closes("proxy-connection") {
            request.keep_alive = false;
        }
        self.buffer.drain(..length);
        Ok(Some(request))
    }

    fn body(&mut self, request: &Request) -> Result<Vec<u8>, RequestError> {
        const TOO_LARGE: RequestError =
            RequestError::Refused(413, "the body of the request is too large to be recorded");
        if request.header("expect").is_some_and(|text| has_token(text, "100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.stream.flush()?;
        }
        if let Some(coding) = request.header("transfer-encoding") {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err(RequestError::Refused(501, "the transfer encoding is not known"));
            }
            return self.chunks(&TOO_LARGE);
        }
        let Some(length) = request.header("content-length") else { return Ok(Vec::new()) };
        let malformed = RequestError::Refused(400, "the length of the request is no number");
        let Some(length) = decimal::<usize>(length) else { return Err(malformed) };
        if length > REQUEST_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, RequestError> {
        while self.buffer.len() < length {
            if self.fill()? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn line(&mut self) -> Result<Vec<u8>, RequestError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                if end > CHUNK_LINE_BYTES_MAX {
                    return Err(LINE_TOO_LONG);
                }
                let mut line = self.take(end + 1)?;
                line.truncate(end);
                return Ok(line);
            }
            if self.buffer.len() > CHUNK_LINE_BYTES_MAX {
                return Err(LINE_TOO_LONG);
            }
            if self.fill()? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn chunks(&mut self, too_large: &RequestError) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let text = String::from_utf8_lossy(&line);
            let digits = text.split(';').next().unwrap_or_default().trim();
            let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let length = is_number.then(|| usize::from_str_radix(digits, 16).ok()).flatten();
            let malformed = RequestError::Refused(400, "the size of a chunk is no number");
            let Some(length) = length else { return Err(malformed) };
            if length == 0 {
                break;
            }
            if length > REQUEST_BYTES_MAX || body.len() + length > REQUEST_BYTES_MAX {
                let RequestError::Refused(status, text) = too_large else { break };
                return Err(RequestError::Refused(*status, text));
            }
            body.extend(self.take(length)?);
            self.line()?;
        }
        // Trailers, then an empty line.
        while !self.line()?.trim_ascii().is_empty() {}
        Ok(body)
    }
}

/// Whether a list of words has one.
pub(crate) fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    Chunks,
    /// With the connection.
    Close,
    /// There is none.
    Nothing,
}

/// Writes the head of an answer.
pub(crate) fn write_head(
    out: &mut dyn Write,
    status: u16,
    headers: &[(String, String)],
    framing: Framing,
    keep_alive: bool,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        // Nothing that was read as a header has a line feed; nothing with one is written.
        if !value.contains(['\r', '\n']) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    match framing {
        Framing::Length(length) => head.push_str(&format!("content-length: {length}\r\n")),
        Framing::Chunks => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::Close | Framing::Nothing => {}
    }
    if !keep_alive || framing == Framing::Close {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    out.write_all(head.as_bytes())
}

/// The words that belong to a status; programs show them.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

/// The part of `length` bytes that a `Range` asks for, as first and last; `None` for all of it,
/// an error if there is nothing there.
pub(crate) fn range(header: &str, length: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Ok(None) };
    // Several ranges may be answered with everything.
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Ok(None);
    };
    let (first, last) = (first.trim(), last.trim());
    let end = length.checked_sub(1).ok_or(())?;
    let (first, last) = match (decimal::<u64>(first), decimal::<u64>(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(end)),
        (Some(first), None) if last.is_empty() => (first, end),
        (None, Some(count)) if first.is_empty() && count > 0 => (length.saturating_sub(count), end),
        (None, Some(0)) if first.is_empty() => return Err(()),
        _ => return Ok(None),
    };
    if first > end { Err(()) } else { Ok(Some((first, last))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pipe(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A few bytes at a time, as networks may have it.
            let end = buffer.len().min(7);
            self.0.read(&mut buffer[..end])
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read(text: &str) -> Result<Option<Request>, RequestError> {
        Connection::new(Pipe(io::Cursor::new(text.as_bytes().to_vec()), Vec::new())).request()
    }

    #[test]
    fn bodies_end_by_length_or_by_chunks() {
        let request = read("POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd").unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.body.as_slice()), ("POST", &b"abc"[..]));
        let text = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nt: v\r\n\r\n";
        assert_eq!(read(text).unwrap().unwrap().body, b"abc");
    }

    #[test]
    fn what_is_too_large_or_no_request_is_refused() {
        let status = |text: &str| match read(text) {
            Err(RequestError::Refused(status, _)) => status,
            other => panic!("{:?}", other.map(|request| request.map(|request| request.target))),
        };
        assert_eq!(status("\u{1}\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), 413);
        assert_eq!(status("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
        let chunk = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n";
        assert_eq!(status(chunk), 413);
        assert_eq!(status(&chunk.replace("ffffffff", "+1")), 400);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(65_536))), 431);
        assert_eq!(status(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000))), 431);
        assert!(read("").unwrap().is_none());
        assert!(matches!(read("GET / HT"), Err(RequestError::Io(_))));
    }

    #[test]
    fn a_connection_stays_unless_it_is_told_otherwise() {
        let stays = |text: &str| read(text).unwrap().unwrap().keep_alive;
        assert!(stays("GET / HTTP/1.1\r\n\r\n"));
        assert!(!stays("GET / HTTP/1.0\r\n\r\n"));
        assert!(!stays("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n"));
    }

    #[test]
    fn a_range_is_a_part_of_what_is_there() {
        for (header, expected) in [
            ("bytes=0-1", Ok(Some((0, 1)))),
            ("bytes=5-", Ok(Some((5, 9)))),
            ("bytes=5-99", Ok(Some((5, 9)))),
            ("bytes=-3", Ok(Some((7, 9)))),
            ("bytes=-99", Ok(Some((0, 9)))),
            ("bytes=10-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=0-1,3-4", Ok(None)),
            ("bytes=x", Ok(None)),
            ("items=0-1", Ok(None)),
        ] {
            assert_eq!(range(header, 10), expected, "{header}");
        }
        assert_eq!(range("bytes=0-", 0), Err(()));
    }
}
