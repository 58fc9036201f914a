//! The keys that may sign for the archive.

use std::collections::BTreeSet;

use corten_sys::clock::Timestamp;
use pgp::composed::{CleartextSignedMessage, Deserializable as _, SignedPublicKey};
use pgp::packet::{Signature, SignatureType};
use pgp::ser::Serialize;
use pgp::types::{Fingerprint, KeyDetails, KeyId, Tag, VerifyingKey};

/// The keys of Debian's archive, as the package `debian-archive-keyring` ships them.
const DEBIAN_ARCHIVE: &[u8] = include_bytes!("../data/debian-archive-keyring.gpg");

/// Certificates that may sign a release.
#[derive(Debug, Clone)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

/// Text that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// What the signatures cover, with plain newlines.
    pub text: String,
    /// The fingerprints of the keys, in upper-case hexadecimal, sorted.
    pub signers: Vec<String>,
}

/// A keyring that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The bytes are no OpenPGP certificates.
    #[error("failed to read the OpenPGP certificates of the keyring")]
    Parse(#[source] Box<pgp::errors::Error>),
    /// There is nothing in it.
    #[error("the keyring has no certificate")]
    Empty,
}

/// A signature that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file is not text.
    #[error("the file is not UTF-8 text")]
    NotText,
    /// The file is no clear-signed message.
    #[error("the file is not a clear-signed OpenPGP message")]
    Parse(#[source] Box<pgp::errors::Error>),
    /// A signature of a key that we have does not match the text.
    #[error("the signature by {key} does not match the text")]
    Bad {
        /// The fingerprint.
        key: String,
        /// Why.
        #[source]
        source: Box<pgp::errors::Error>,
    },
    /// The key must not be used.
    #[error("the key {key} {reason}")]
    Unusable {
        /// The fingerprint.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// None of the keys that signed is in the keyring.
    #[error("no key of the keyring signed it; it was signed by {}", if signers.is_empty() { "nobody" } else { signers })]
    Untrusted {
        /// What is known of the keys that signed.
        signers: String,
    },
}

impl Keyring {
    /// Returns the keys of Debian's archive that ship with this program.
    pub fn debian() -> Self {
        Self::parse(DEBIAN_ARCHIVE).expect("the embedded keyring is read by a test")
    }

    /// Reads certificates, armoured or not.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let parse = |error| KeyringError::Parse(Box::new(error));
        let (certificates, _) = SignedPublicKey::from_reader_many(bytes).map_err(parse)?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(parse)?;
        if certificates.is_empty() {
            return Err(KeyringError::Empty);
        }
        Ok(Self { certificates })
    }

    /// Returns the fingerprints of the certificates, in upper-case hexadecimal, sorted.
    pub fn fingerprints(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.certificates.iter().map(|key| hex(&key.primary_key.fingerprint())).collect();
        all.sort();
        all
    }

    /// Verifies a clear-signed text.
    ///
    /// Every signature by a key of the keyring must hold, and there must be one. Signatures by other
    /// keys are ignored: Debian signs with the keys of several releases.
    pub fn verify_cleartext(
        &self,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<SignedText, SignatureError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SignatureError::NotText)?;
        let (message, _) = CleartextSignedMessage::from_string(text)
            .map_err(|error| SignatureError::Parse(Box::new(error)))?;
        let covered = message.signed_text();
        let mut signers = BTreeSet::new();
        let mut unusable = None;
        for signature in message.signatures() {
            let Some(key) = self.find(signature) else { continue };
            let fingerprint = hex(&key.fingerprint());
            key.verify(signature, covered.as_bytes()).map_err(|source| SignatureError::Bad {
                key: fingerprint.clone(),
                source: Box::new(source),
            })?;
            match key.unusable(signature, now.seconds) {
                None => drop(signers.insert(fingerprint)),
                Some(reason) => {
                    unusable = Some(SignatureError::Unusable { key: fingerprint, reason });
                }
            }
        }
        if signers.is_empty() {
            return Err(unusable
                .unwrap_or_else(|| SignatureError::Untrusted { signers: issuers(&message) }));
        }
        Ok(SignedText {
            text: covered.replace("\r\n", "\n"),
            signers: signers.into_iter().collect(),
        })
    }

    fn find(&self, signature: &Signature) -> Option<Key<'_>> {
        if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
            return None;
        }
        self.certificates.iter().find_map(|certificate| {
            if is_issuer(signature, &certificate.primary_key) {
                return Some(Key { certificate, subkey: None });
            }
            let subkey = certificate
                .public_subkeys
                .iter()
                .find(|subkey| is_issuer(signature, &subkey.key))?;
            Some(Key { certificate, subkey: Some(subkey) })
        })
    }
}

fn is_issuer(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if !fingerprints.is_empty() {
        return fingerprints.contains(&&key.fingerprint());
    }
    signature.issuer_key_id().contains(&&key.legacy_key_id())
}

fn issuers(message: &CleartextSignedMessage) -> String {
    let ids: BTreeSet<String> = message
        .signatures()
        .iter()
        .flat_map(|signature| {
            let ids = signature.issuer_key_id();
            let prints = signature.issuer_fingerprint();
            let print = |fingerprint: &&Fingerprint| hex(fingerprint);
            let id = |id: &&KeyId| upper_hex(id.as_ref());
            if prints.is_empty() {
                ids.iter().map(id).collect::<Vec<_>>()
            } else {
                prints.iter().map(print).collect()
            }
        })
        .collect();
    ids.into_iter().collect::<Vec<_>>().join(", ")
}

/// A primary key, or one subkey of it.
struct Key<'k> {
    certificate: &'k SignedPublicKey,
    subkey: Option<&'k pgp::composed::SignedPublicSubKey>,
}

impl Key<'_> {
    fn fingerprint(&self) -> Fingerprint {
        match self.subkey {
            Some(subkey) => subkey.key.fingerprint(),
            None => self.certificate.primary_key.fingerprint(),
        }
    }

    fn verify(&self, signature: &Signature, text: &[u8]) -> pgp::errors::Result<()> {
        match self.subkey {
            Some(subkey) => signature.verify(&subkey.key, text),
            None => signature.verify(&self.certificate.primary_key, text),
        }
    }

    /// Returns why the key must not be used now, for a signature that is otherwise right.
    fn unusable(&self, signature: &Signature, now: i64) -> Option<&'static str> {
        if is_over(
            signature.created().map(pgp::types::Timestamp::as_secs),
            signature.signature_expiration_time(),
            now,
        ) {
            return Some("made a signature that has expired");
        }
        self.primary_unusable(now)
            .or_else(|| self.subkey.and_then(|subkey| self.subkey_unusable(subkey, now)))
    }

    fn primary_unusable(&self, now: i64) -> Option<&'static str> {
        let primary = &self.certificate.primary_key;
        let details = &self.certificate.details;
        if details
            .revocation_signatures
            .iter()
            .any(|revocation| revocation.verify_key(primary).is_ok())
        {
            return Some("is revoked");
        }
        // Self-signatures: those over a user id, and those directly over the key.
        let over_users = details.users.iter().flat_map(|user| {
            user.signatures.iter().filter(|signature| {
                is_issuer(signature, primary)
                    && signature.is_certification()
                    && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            })
        });
        let direct = details
            .direct_signatures
            .iter()
            .filter(|signature| signature.verify_key(primary).is_ok());
        let Some(newest) = newest(over_users.chain(direct)) else {
            return Some("has no valid self-signature");
        };
        let created = Some(primary.created_at().as_secs());
        is_over(created, newest.key_expiration_time(), now).then_some("has expired")
    }

    fn subkey_unusable(
        &self,
        subkey: &pgp::composed::SignedPublicSubKey,
        now: i64,
    ) -> Option<&'static str> {
        let primary = &self.certificate.primary_key;
        let valid =
            |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
        let of = |kind: SignatureType| {
            subkey.signatures.iter().filter(move |s| s.typ() == Some(kind)).filter(valid)
        };
        if of(SignatureType::SubkeyRevocation).next().is_some() {
            return Some("is revoked");
        }
        let Some(binding) = newest(of(SignatureType::SubkeyBinding)) else {
            return Some("is not bound to its primary key");
        };
        if !binding.key_flags().sign() || !signs_back(binding, &subkey.key, primary) {
            return Some("is no key for signing");
        }
        let created = Some(subkey.key.created_at().as_secs());
        is_over(created, binding.key_expiration_time(), now).then_some("has expired")
    }
}

/// A subkey for signing must have agreed to belong to its primary key.
fn signs_back<S, P>(binding: &Signature, subkey: &S, primary: &P) -> bool
where
    S: VerifyingKey + Serialize,
    P: KeyDetails + Serialize,
{
    binding
        .embedded_signature()
        .is_some_and(|back| back.verify_primary_key_binding(subkey, primary).is_ok())
}

fn newest<'s>(signatures: impl Iterator<Item = &'s Signature>) -> Option<&'s Signature> {
    signatures.max_by_key(|signature| signature.created().map(pgp::types::Timestamp::as_secs))
}

fn is_over(created: Option<u32>, lifetime: Option<pgp::types::Duration>, now: i64) -> bool {
    let lifetime = lifetime.map(pgp::types::Duration::as_secs).filter(|seconds| *seconds > 0);
    created
        .zip(lifetime)
        .is_some_and(|(created, lifetime)| i64::from(created) + i64::from(lifetime) < now)
}

fn hex(fingerprint: &Fingerprint) -> String {
    upper_hex(fingerprint.as_bytes())
}

fn upper_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_embedded_keyring_is_debians() {
        let keyring = Keyring::debian();
        expect![[r#"
            04B54C3CDCA79751B16BC6B5225629DF75B188BD
            05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0
            1F89983E0081FDE018F3CC9673A4F27B8DD47936
            41587F7DB8C774BCCF131416762F67A0B2C39DE4
            4D64FEC119C2029067D6E791F8D2585B8783D481
            5E04A1E3223A19A20706E20F9904613D4CCE68C6
            A4285295FC7B1A81600062A9605C66F00D6C9793
            AC530D520F2F3269F5E98313A48449044AAD5C5D
            B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8
        "#]]
        .assert_eq(&(keyring.fingerprints().join("\n") + "\n"));
    }

    #[test]
    fn what_is_no_keyring_is_refused() {
        assert!(Keyring::parse(b"").is_err());
        assert!(Keyring::parse(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n").is_err());
    }
}
