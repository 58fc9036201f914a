//! Private keys as OpenSSH writes them: `PROTOCOL.key` of its sources.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::{BigUint, RsaPrivateKey};

use super::SshError;
use super::keys::{Key, Pair, put_string, take_string};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The bytes of an RSA modulus: 16384 bits, the most that OpenSSH takes.
const MODULUS_BYTES_MAX: usize = 2048;

/// Why a key cannot be read.
enum Fault {
    Form(&'static str),
    Protected,
    Algorithm(String),
}

const TRUNCATED: Fault = Fault::Form("it ends too early");

/// Reads a private key that has no passphrase.
pub(super) fn read(path: &Path, text: &[u8]) -> Result<Key, SshError> {
    let path = path.to_owned();
    parse(text).map_err(|fault| match fault {
        Fault::Form(what) => SshError::Key { path, what },
        Fault::Protected => SshError::Protected { path },
        Fault::Algorithm(algorithm) => SshError::Algorithm { path, algorithm },
    })
}

fn parse(text: &[u8]) -> Result<Key, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::Form("it is no text"))?;
    let (before, rest) =
        text.split_once(BEGIN).ok_or(Fault::Form(if text.contains("PRIVATE KEY-----") {
            "it has an older format"
        } else {
            "it is no private key"
        }))?;
    let (body, _) = rest.split_once(END).ok_or(TRUNCATED)?;
    if !before.trim().is_empty() {
        return Err(Fault::Form("something stands before the key"));
    }
    let body: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(body).map_err(|_| Fault::Form("its text is damaged"))?;
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Fault::Form("its version is not known"))?;
    let cipher = string(&mut rest)?;
    let (_function, _options) = (string(&mut rest)?, string(&mut rest)?);
    if number(&mut rest)? != 1 {
        return Err(Fault::Form("it is not exactly one key"));
    }
    let public = string(&mut rest)?.to_vec();
    let private = string(&mut rest)?;
    if cipher != b"none" {
        return Err(Fault::Protected);
    }
    private_part(private, public)
}

fn private_part(mut rest: &[u8], public: Vec<u8>) -> Result<Key, Fault> {
    if number(&mut rest)? != number(&mut rest)? {
        return Err(Fault::Form("its two halves differ"));
    }
    let algorithm = string(&mut rest)?;
    // What is signed with must be what is told.
    let mut told = Vec::new();
    let mut tell = |bytes: &[u8]| put_string(&mut told, bytes).ok_or(TRUNCATED);
    tell(algorithm)?;
    let pair = match algorithm {
        b"ssh-ed25519" => {
            tell(string(&mut rest)?)?;
            let both: &[u8; 64] = string(&mut rest)?.try_into().map_err(|_| TRUNCATED)?;
            let key = ed25519_dalek::SigningKey::from_keypair_bytes(both);
            Pair::Ed25519(key.map_err(|_| Fault::Form("its two halves differ"))?)
        }
        b"ssh-rsa" => {
            let (modulus, exponent) = (string(&mut rest)?, string(&mut rest)?);
            tell(exponent)?;
            tell(modulus)?;
            Pair::Rsa(Box::new(rsa(modulus, exponent, &mut rest)?))
        }
        b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521" => {
            tell(string(&mut rest)?)?;
            tell(string(&mut rest)?)?;
            ecdsa(algorithm, string(&mut rest)?)?
        }
        other => return Err(Fault::Algorithm(String::from_utf8_lossy(other).into_owned())),
    };
    if told != public {
        return Err(Fault::Form("its public and its private part differ"));
    }
    let comment = string(&mut rest)?.to_vec();
    Ok(Key { pair, public, comment })
}

fn rsa(modulus: &[u8], exponent: &[u8], rest: &mut &[u8]) -> Result<RsaPrivateKey, Fault> {
    let wrong = Fault::Form("its numbers do not belong together");
    let (private, _inverse) = (string(rest)?, string(rest)?);
    let primes = [string(rest)?, string(rest)?].map(BigUint::from_bytes_be).to_vec();
    if modulus.len() > MODULUS_BYTES_MAX {
        return Err(wrong);
    }
    let [modulus, exponent, private] = [modulus, exponent, private].map(BigUint::from_bytes_be);
    let key = RsaPrivateKey::from_components(modulus, exponent, private, primes);
    match key {
        Ok(key) if key.validate().is_ok() => Ok(key),
        _ => Err(wrong),
    }
}

fn ecdsa(algorithm: &[u8], scalar: &[u8]) -> Result<Pair, Fault> {
    let wrong = |_| Fault::Form("its number is not one of its curve");
    Ok(match algorithm {
        b"ecdsa-sha2-nistp256" => {
            Pair::P256(p256::ecdsa::SigningKey::from_slice(&padded::<32>(scalar)?).map_err(wrong)?)
        }
        b"ecdsa-sha2-nistp384" => {
            Pair::P384(p384::ecdsa::SigningKey::from_slice(&padded::<48>(scalar)?).map_err(wrong)?)
        }
        _ => Pair::P521(Box::new(
            p521::ecdsa::SigningKey::from_slice(&padded::<66>(scalar)?).map_err(wrong)?,
        )),
    })
}

/// A number of as many bytes as it needs, as one of as many bytes as its curve has.
fn padded<const N: usize>(number: &[u8]) -> Result<[u8; N], Fault> {
    let digits = number.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &number[at..]);
    let mut all = [0; N];
    let start = N.checked_sub(digits.len()).ok_or(Fault::Form("its number is too large"))?;
    all[start..].copy_from_slice(digits);
    Ok(all)
}

fn string<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Fault> {
    take_string(bytes).ok_or(TRUNCATED)
}

fn number(bytes: &mut &[u8]) -> Result<u32, Fault> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    *bytes = rest;
    Ok(u32::from_be_bytes(*number))
}
