use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use base64::Engine as _;
use corten_sys::command::{Command, find_program};
use corten_sys::file;
use corten_sys::process::Ended;
use corten_testkit::TempDir;
use ed25519_dalek::{Signature, SigningKey};
use expect_test::expect;

use super::serve::{receive, send};
use super::*;

const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A key that is the same in every test.
fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> Vec<u8> {
    [string(b"ssh-ed25519"), string(key().verifying_key().as_bytes())].concat()
}

/// A key file; `change` may damage it before it is written as text.
fn key_text(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let verifying = key().verifying_key();
    let private = [
        vec![1, 2, 3, 4, 1, 2, 3, 4],
        string(b"ssh-ed25519"),
        string(verifying.as_bytes()),
        string(&key().to_keypair_bytes()),
        string(b"tester"),
        vec![1, 2, 3],
    ]
    .concat();
    let mut all = [
        b"openssh-key-v1\0".to_vec(),
        string(b"none"),
        string(b"none"),
        string(b""),
        vec![0, 0, 0, 1],
        string(&public()),
        string(&private),
    ]
    .concat();
    change(&mut all);
    let body = base64::engine::general_purpose::STANDARD.encode(all);
    let kind = "OPENSSH PRIVATE KEY";
    format!("-----BEGIN {kind}-----\n{}\n{}\n-----END {kind}-----\n", &body[..70], &body[70..])
}

fn key_file(temp: &TempDir, name: &str) -> PathBuf {
    let path = temp.path().join(name);
    file::write(&path, key_text(|_| ()).as_bytes()).unwrap();
    path
}

fn serve(agent: &SshAgent, temp: &TempDir) -> Served {
    let scratch = Scratch::in_memory(temp.path()).unwrap();
    let own = (file::effective_user_id(), own_group(temp));
    Served::start(agent, scratch, &Access { mode: 0o640, uid: own.0, gid: own.1 }).unwrap()
}

fn own_group(temp: &TempDir) -> u32 {
    file::metadata(temp.path()).unwrap().gid()
}

fn ask(stream: &mut UnixStream, request: &[u8]) -> Vec<u8> {
    send(stream, request).unwrap();
    receive(stream).unwrap().expect("an answer")
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut all = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    all.extend(bytes);
    all
}

fn sign_request(public: &[u8], message: &[u8], flags: u32) -> Vec<u8> {
    [vec![13], string(public), string(message), flags.to_be_bytes().to_vec()].concat()
}

#[test]
fn a_key_is_listed_and_signs() {
    let temp = TempDir::new();
    let agent = SshAgent::open(&[key_file(&temp, "key")]).unwrap();
    let served = serve(&agent, &temp);
    assert_eq!(file::metadata(served.path()).unwrap().mode() & 0o7777, 0o640);
    let mut stream = UnixStream::connect(served.path()).unwrap();
    let public = public();
    let listed = [vec![12, 0, 0, 0, 1], string(&public), string(b"tester")].concat();
    assert_eq!(ask(&mut stream, &[11]), listed);

    let answer = ask(&mut stream, &sign_request(&public, b"message", 0));
    // 14, the length of all, the length of the name and the name, the length of the signature.
    let name = string(b"ssh-ed25519");
    assert_eq!((answer[0], &answer[5..5 + name.len()]), (14, name.as_slice()));
    let bytes = answer[5 + name.len() + 4..].to_vec();
    let signature = Signature::from_slice(&bytes).unwrap();
    key().verifying_key().verify_strict(b"message", &signature).unwrap();
}

#[test]
fn a_damaged_key_is_refused() {
    let read = |text: &str| key_file::read(Path::new("key"), text.as_bytes()).map(drop);
    assert!(read(&key_text(|_| ())).is_ok());
    let length = key_text(|_| ()).len();
    for end in 0..length - 2 {
        assert!(read(&key_text(|_| ())[..end]).is_err(), "{end}");
    }
    let whole = std::cell::Cell::new(0);
    drop(key_text(|bytes| whole.set(bytes.len())));
    for end in 60..whole.get() - 3 {
        assert!(read(&key_text(|bytes| bytes.truncate(end))).is_err(), "{end}");
    }
    for at in 0..whole.get() - 13 {
        // The name of the derivation that is not used says nothing, nor does a comment.
        if !(23..39).contains(&at) {
            assert!(read(&key_text(|bytes| bytes[at] ^= 1)).is_err(), "{at}");
        }
    }
}

#[test]
fn what_is_no_listing_and_no_signing_is_refused() {
    let temp = TempDir::new();
    let agent = SshAgent::open(&[key_file(&temp, "key")]).unwrap();
    let served = serve(&agent, &temp);
    let public = public();
    let whole = sign_request(&public, b"message", 0);
    let requests = [
        vec![],
        vec![17, 0, 0, 0, 0],
        vec![19],
        vec![27, 0, 0, 0, 1],
        vec![13],
        vec![13, 0xff, 0xff, 0xff, 0xff],
        whole[..whole.len() - 1].to_vec(),
        sign_request(b"another key", b"message", 0),
    ];
    let mut stream = UnixStream::connect(served.path()).unwrap();
    for request in requests {
        assert_eq!(ask(&mut stream, &request), [5], "{request:?}");
    }
    // A length that nobody means ends the connection, not the agent.
    std::io::Write::write_all(&mut stream, &[0xff; 8]).unwrap();
    assert!(receive(&mut stream).is_err() || receive(&mut stream).unwrap().is_none());
    let mut stream = UnixStream::connect(served.path()).unwrap();
    assert_eq!(ask(&mut stream, &[11])[0], 12);
}

#[test]
fn an_agent_of_the_host_is_only_asked_to_list_and_to_sign() {
    let temp = TempDir::new();
    let socket = temp.path().join("host");
    let listener = UnixListener::bind(&socket).unwrap();
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while let Some(request) = receive(&mut stream).unwrap() {
            asked.push(request[0]);
            send(&mut stream, &[99, request[0]]).unwrap();
        }
        asked
    });
    let served = serve(&SshAgent::open(std::slice::from_ref(&socket)).unwrap(), &temp);
    let mut stream = UnixStream::connect(served.path()).unwrap();
    let answers = [11, 17, 18, 19, 22, 23, 25, 26, 27, 13].map(|kind| ask(&mut stream, &[kind]));
    assert_eq!(answers.iter().filter(|answer| **answer == [5]).count(), 8);
    assert_eq!((answers[0].as_slice(), answers[9].as_slice()), (&[99, 11][..], &[99, 13][..]));
    drop(stream);
    assert_eq!(host.join().unwrap(), [11, 13]);
    // The host's agent has ended.
    let mut stream = UnixStream::connect(served.path()).unwrap();
    assert_eq!(ask(&mut stream, &[11]), [5]);
}

#[test]
fn a_socket_goes_with_its_step() {
    let temp = TempDir::new();
    let served = serve(&SshAgent::open(&[key_file(&temp, "key")]).unwrap(), &temp);
    let path = served.path().to_owned();
    drop(served);
    assert!(!file::exists(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err());
}

#[test]
fn what_cannot_be_used_is_told() {
    let temp = TempDir::new();
    let socket = temp.path().join("host");
    let listener = UnixListener::bind(&socket).unwrap();
    let told = |paths: &[PathBuf]| {
        let error = SshAgent::open(paths).unwrap_err();
        let root = temp.path().display().to_string();
        format!("{error}\n{}\n", error.hint().unwrap_or_default()).replace(&root, "")
    };
    let text = temp.path().join("text");
    file::write(&text, b"no key").unwrap();
    let mut all = told(&[]);
    all += &told(&[key_file(&temp, "key"), socket]);
    all += &told(&[text]);
    all += &told(&[temp.path().join("absent")]);
    expect![[r#"
        an agent needs a socket or a key file
        start an agent, or name a key: `--ssh default=$HOME/.ssh/id_ed25519`
        failed to use `/host`: one socket can be given, or key files
        give the agents names: `--ssh default --ssh deploy=KEYFILE`
        failed to read the key `/text`: it is no private key
        it must be a private key in OpenSSH's format; `ssh-keygen -p -f /text` rewrites an older one
        failed to inspect `/absent`

    "#]]
    .assert_eq(&all);
    drop(listener);
}

fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Ended, String) {
    let program = find_program(program, SEARCH_PATH.as_ref()).unwrap();
    let mut command = Command::new(program).args(arguments.iter().copied());
    for (name, value) in variables {
        command = command.env(name, value);
    }
    let (report, output) = command.output(1 << 16).unwrap();
    (report.ended, String::from_utf8(output).unwrap())
}

mod privileged {
    use corten_testkit::{Need, require};

    use super::*;

    /// `ssh-add -T` lets an agent sign with a key and checks what it signed.
    #[test]
    fn openssh_takes_the_signatures_of_every_kind_of_key() {
        require!(Need::Program("ssh-keygen"), Need::Program("ssh-add"));
        let temp = TempDir::new();
        let mut keys = Vec::new();
        for (kind, bits) in [
            ("ed25519", "256"),
            ("ecdsa", "256"),
            ("ecdsa", "384"),
            ("ecdsa", "521"),
            ("rsa", "2048"),
        ] {
            let path = temp.path().join(format!("{kind}{bits}"));
            let name = path.to_str().unwrap();
            let arguments = ["-q", "-t", kind, "-b", bits, "-N", "", "-f", name];
            assert_eq!(run("ssh-keygen", &arguments, &[]).0, Ended::Code(0));
            keys.push(path);
        }
        let served = serve(&SshAgent::open(&keys).unwrap(), &temp);
        let socket = [("SSH_AUTH_SOCK", served.path().to_str().unwrap())];
        for key in &keys {
            let public = format!("{}.pub", key.display());
            let (ended, told) = run("ssh-add", &["-T", &public], &socket);
            assert_eq!(ended, Ended::Code(0), "{}: {told}", key.display());
        }
        let (_, listed) = run("ssh-add", &["-l"], &socket);
        assert_eq!(listed.lines().count(), keys.len(), "{listed}");
        assert_ne!(run("ssh-add", &["-D"], &socket).0, Ended::Code(0), "nothing is removed");
    }

    #[test]
    fn a_key_with_a_passphrase_is_for_the_agent_and_an_old_form_is_told() {
        require!(Need::Program("ssh-keygen"));
        let temp = TempDir::new();
        let protected = temp.path().join("protected");
        let old = temp.path().join("old");
        let (first, second) = (protected.to_str().unwrap(), old.to_str().unwrap());
        let arguments = ["-q", "-t", "ed25519", "-N", "secret", "-f", first];
        assert_eq!(run("ssh-keygen", &arguments, &[]).0, Ended::Code(0));
        let arguments = ["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", second];
        assert_eq!(run("ssh-keygen", &arguments, &[]).0, Ended::Code(0));
        let error = SshAgent::open(&[protected]).unwrap_err();
        assert!(matches!(error, SshError::Protected { .. }), "{error}");
        assert!(error.hint().unwrap().contains("ssh-add"));
        let error = SshAgent::open(&[old]).unwrap_err();
        assert!(matches!(error, SshError::Key { .. }), "{error}");
    }
}
