//! An agent that has keys of files: it lists them, and signs with them.
//!
//! Keys and signatures are those of RFC 4253, 5656, 8332 and 8709, requests those of the protocol
//! of SSH agents, `draft-ietf-sshm-ssh-agent`. All numbers are big-endian, a string is its length
//! in four bytes and its bytes.

use p256::ecdsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::sha2::{Sha256, Sha512};

/// `SSH_AGENT_FAILURE`: also the answer to what is not known.
pub(super) const FAILURE: u8 = 5;
/// `SSH_AGENTC_REQUEST_IDENTITIES`.
pub(super) const LIST: u8 = 11;
/// `SSH_AGENT_IDENTITIES_ANSWER`.
const LISTED: u8 = 12;
/// `SSH_AGENTC_SIGN_REQUEST`.
pub(super) const SIGN: u8 = 13;
/// `SSH_AGENT_SIGN_RESPONSE`.
const SIGNED: u8 = 14;
/// `SSH_AGENT_RSA_SHA2_256`: with an RSA key, sign by SHA-256.
const RSA_SHA2_256: u32 = 2;
/// `SSH_AGENT_RSA_SHA2_512`: with an RSA key, sign by SHA-512.
const RSA_SHA2_512: u32 = 4;

/// Keys in memory.
pub(super) struct Keys(Vec<Key>);

/// One key, with what is told of it.
pub(super) struct Key {
    pub(super) pair: Pair,
    /// As agents and servers have it.
    pub(super) public: Vec<u8>,
    pub(super) comment: Vec<u8>,
}

/// What signs.
pub(super) enum Pair {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(Box<p521::ecdsa::SigningKey>),
    Rsa(Box<RsaPrivateKey>),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Answers one request.
    pub(super) fn answer(&self, request: &[u8]) -> Vec<u8> {
        let answer = match request.split_first() {
            Some((&LIST, _)) => self.list(),
            Some((&SIGN, rest)) => self.sign(rest),
            _ => None,
        };
        answer.unwrap_or_else(|| vec![FAILURE])
    }

    fn list(&self) -> Option<Vec<u8>> {
        let mut answer = vec![LISTED];
        answer.extend(u32::try_from(self.0.len()).ok()?.to_be_bytes());
        for key in &self.0 {
            put_string(&mut answer, &key.public)?;
            put_string(&mut answer, &key.comment)?;
        }
        Some(answer)
    }

    fn sign(&self, mut rest: &[u8]) -> Option<Vec<u8>> {
        let public = take_string(&mut rest)?;
        let message = take_string(&mut rest)?;
        let flags = u32::from_be_bytes(rest.try_into().ok()?);
        let key = self.0.iter().find(|key| key.public == public)?;
        let (algorithm, signature) = key.pair.sign(message, flags)?;
        let mut inner = Vec::new();
        put_string(&mut inner, algorithm.as_bytes())?;
        put_string(&mut inner, &signature)?;
        let mut answer = vec![SIGNED];
        put_string(&mut answer, &inner)?;
        Some(answer)
    }
}

impl Pair {
    /// The name of the algorithm, and the signature in its form.
    fn sign(&self, message: &[u8], flags: u32) -> Option<(&'static str, Vec<u8>)> {
        Some(match self {
            Self::Ed25519(key) => ("ssh-ed25519", key.try_sign(message).ok()?.to_vec()),
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message).ok()?;
                let (r, s) = signature.split_bytes();
                ("ecdsa-sha2-nistp256", numbers(&r, &s)?)
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message).ok()?;
                let (r, s) = signature.split_bytes();
                ("ecdsa-sha2-nistp384", numbers(&r, &s)?)
            }
            Self::P521(key) => {
                let signature: p521::ecdsa::Signature = key.try_sign(message).ok()?;
                let (r, s) = signature.split_bytes();
                ("ecdsa-sha2-nistp521", numbers(&r, &s)?)
            }
            // Without a flag it would be SHA-1, which servers of the last years do not take: who
            // asks so gets SHA-512 and sees it.
            Self::Rsa(key) if flags & (RSA_SHA2_256 | RSA_SHA2_512) == RSA_SHA2_256 => {
                let key = SigningKey::<Sha256>::new(key.as_ref().clone());
                ("rsa-sha2-256", key.try_sign(message).ok()?.to_vec())
            }
            Self::Rsa(key) => {
                let key = SigningKey::<Sha512>::new(key.as_ref().clone());
                ("rsa-sha2-512", key.try_sign(message).ok()?.to_vec())
            }
        })
    }
}

/// Two positive numbers, each with as many bytes as it needs and none that looks negative.
fn numbers(r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let mut both = Vec::new();
    for number in [r, s] {
        let digits = number.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &number[at..]);
        let sign: &[u8] =
            if digits.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
        put_string(&mut both, &[sign, digits].concat())?;
    }
    Some(both)
}

pub(super) fn put_string(into: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    into.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
    into.extend(bytes);
    Some(())
}

pub(super) fn take_string<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(string)
}
