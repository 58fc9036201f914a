//! Finds the process that has a port, to name it in an error. Best effort: what cannot be read
//! is passed over, since the error stands without it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corten_sys::file;

use super::ports::Protocol;

/// The state of a TCP socket that listens, in the tables of `/proc/net`.
const LISTENING: &str = "0A";

/// A table has one line of 150 bytes per socket; a host with more sockets gets no answer.
const TABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The name of a process, as `/proc/PID/comm` holds it.
const NAME_BYTES_MAX: u64 = 64;

/// Returns such as `` `nginx` (process 812) ``, if it can be seen.
pub(super) fn holder_of(port: u16, protocol: Protocol) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let mut sockets = BTreeSet::new();
    for table in tables {
        // `/proc/net` would be that of the first thread, which may be in another namespace.
        let path = Path::new("/proc/thread-self/net").join(table);
        let Ok(bytes) = file::read_limited(&path, TABLE_BYTES_MAX) else { continue };
        sockets.extend(sockets_of(&String::from_utf8_lossy(&bytes), port, protocol));
    }
    if sockets.is_empty() {
        return None;
    }
    let processes = file::list_dir(Path::new("/proc")).ok()?;
    let pid = processes
        .iter()
        .filter_map(|name| name.to_str()?.parse::<u32>().ok())
        .find(|pid| has_socket(*pid, &sockets))?;
    let path = PathBuf::from(format!("/proc/{pid}/comm"));
    let name = file::read_limited(&path, NAME_BYTES_MAX).ok()?;
    Some(format!("`{}` (process {pid})", String::from_utf8_lossy(&name).trim()))
}

/// Reads the numbers of the sockets that are bound to a port from a table of `/proc/net`.
fn sockets_of(table: &str, port: u16, protocol: Protocol) -> Vec<u64> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let bound = u16::from_str_radix(local_port, 16).ok()? == port;
        let listens = protocol == Protocol::Udp || fields.get(3) == Some(&LISTENING);
        if bound && listens { fields.get(9)?.parse().ok() } else { None }
    };
    table.lines().skip(1).filter_map(socket).collect()
}

fn has_socket(pid: u32, sockets: &BTreeSet<u64>) -> bool {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let Ok(names) = file::list_dir(&directory) else { return false };
    names.iter().any(|name| {
        let Ok(target) = std::fs::read_link(directory.join(name)) else { return false };
        let number = target.to_str().and_then(socket_number);
        number.is_some_and(|number| sockets.contains(&number))
    })
}

/// Reads the number from a link such as `socket:[1234]`.
fn socket_number(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
        1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n\
        2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n\
        3: broken\n";

    #[test]
    fn only_listening_sockets_have_a_tcp_port() {
        assert_eq!(sockets_of(TABLE, 8080, Protocol::Tcp), [4711]);
        assert_eq!(sockets_of(TABLE, 8080, Protocol::Udp), [4711, 4712]);
        assert_eq!(sockets_of(TABLE, 81, Protocol::Tcp), [] as [u64; 0]);
        assert_eq!(sockets_of("", 80, Protocol::Tcp), [] as [u64; 0]);
    }

    #[test]
    fn the_number_of_a_socket_is_read_from_its_link() {
        assert_eq!(socket_number("socket:[12]"), Some(12));
        assert_eq!(socket_number("pipe:[12]"), None);
        assert_eq!(socket_number("socket:[]"), None);
    }

    #[test]
    fn a_port_of_this_process_is_found() {
        let ours = format!("(process {})", std::process::id());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder_of(tcp.local_addr().unwrap().port(), Protocol::Tcp).unwrap();
        assert!(holder.ends_with(&ours), "{holder}");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let holder = holder_of(udp.local_addr().unwrap().port(), Protocol::Udp).unwrap();
        assert!(holder.ends_with(&ours), "{holder}");
    }

    #[test]
    fn a_free_port_has_no_holder() {
        assert_eq!(holder_of(0, Protocol::Tcp), None);
    }
}
