//! A small Debian archive in memory, signed by a throw-away key.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _};

use corten_oci::digest::Digest;
use corten_sys::clock::{FixedClock, Timestamp};
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder,
    SignedPublicKey, SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::types::Password;

use crate::deb::tests::{TestFile, deb};
use crate::keyring::Keyring;
use crate::sources::Mirrors;
use crate::transport::{Body, Transport, TransportError};

/// The day on which the tests happen: 2026-07-12.
pub(crate) const NOW: i64 = 1_783_814_400;

/// The time in all packages: 2026-01-01.
pub(crate) const MTIME: i64 = 1_767_225_600;

pub(crate) const CLOCK: FixedClock = FixedClock(Timestamp::from_seconds(NOW));

pub(crate) const MIRROR: &str = "http://m.test/debian";

/// A key whose subkey signs, as those of Debian do.
pub(crate) struct Signer {
    secret: SignedSecretKey,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let subkey = SubkeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .can_authenticate(false)
            .build()
            .unwrap();
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(false)
            .can_encrypt(EncryptionCaps::None)
            .primary_user_id("Test Archive <archive@debian.test>".into())
            .subkeys(vec![subkey])
            .build()
            .unwrap();
        Self { secret: params.generate(rand::thread_rng()).unwrap() }
    }

    pub(crate) fn keyring(&self) -> Keyring {
        let public = SignedPublicKey::from(self.secret.clone());
        Keyring::parse(public.to_armored_string(ArmorOptions::default()).unwrap().as_bytes())
            .unwrap()
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        let subkey = &self.secret.secret_subkeys[0].key;
        let message =
            CleartextSignedMessage::sign(rand::thread_rng(), text, subkey, &Password::empty())
                .unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap().into_bytes()
    }
}

/// A package of the archive.
#[derive(Clone, Copy)]
pub(crate) struct TestPackage<'p> {
    pub(crate) control: &'p str,
    pub(crate) scripts: &'p [TestFile<'p>],
    pub(crate) files: &'p [TestFile<'p>],
}

/// An archive in memory.
pub(crate) struct Repository {
    pub(crate) signer: Signer,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    pub(crate) fn new() -> Self {
        Self { signer: Signer::new(), files: BTreeMap::new() }
    }

    /// Publishes a suite below a root of an archive; `dates` are the lines of the release.
    pub(crate) fn publish(
        &mut self,
        root: &str,
        suite: &str,
        dates: &str,
        packages: &[TestPackage<'_>],
    ) {
        let described: Vec<_> =
            packages.iter().map(|package| (package.control, *package)).collect();
        self.publish_as(root, suite, dates, &described);
    }

    /// Publishes packages under descriptions that need not be theirs.
    pub(crate) fn publish_as(
        &mut self,
        root: &str,
        suite: &str,
        dates: &str,
        packages: &[(&str, TestPackage<'_>)],
    ) {
        let mut index = String::new();
        for (description, package) in packages {
            let control: Vec<TestFile<'_>> = [("control", 0o644, package.control)]
                .into_iter()
                .chain(package.scripts.iter().copied())
                .collect();
            let bytes = deb(&control, package.files, MTIME);
            let filename = format!("pool/{}.deb", Digest::of(&bytes).short());
            writeln!(
                index,
                "{description}Filename: {filename}\nSize: {}\nSHA256: {}\n",
                bytes.len(),
                Digest::of(&bytes).hex()
            )
            .unwrap();
            self.files.insert(format!("{root}/{filename}"), bytes);
        }
        let mut compressed = Vec::new();
        liblzma::read::XzEncoder::new(index.as_bytes(), 0).read_to_end(&mut compressed).unwrap();
        let path = "main/binary-amd64/Packages.xz";
        let digest = Digest::of(&compressed);
        let release = format!(
            "Origin: Debian\nSuite: {suite}\nCodename: {suite}\n{dates}Acquire-By-Hash: yes\nSHA256:\n {} {} {path}\n",
            digest.hex(),
            compressed.len()
        );
        let folder = format!("{root}/dists/{suite}");
        let by_hash = format!("{folder}/main/binary-amd64/by-hash/SHA256/{}", digest.hex());
        self.files.insert(by_hash, compressed);
        let signed = self.signer.sign(&release);
        self.files.insert(format!("{folder}/InRelease"), signed);
    }

    pub(crate) fn mirrors() -> Mirrors {
        Mirrors::parse([MIRROR]).unwrap()
    }
}

impl Transport for Repository {
    fn open(&self, url: &str) -> Result<Body, TransportError> {
        match self.files.get(url) {
            Some(bytes) => Ok(Body { reader: Box::new(io::Cursor::new(bytes.clone())) }),
            None => Err(TransportError::NotFound { url: url.to_owned() }),
        }
    }
}

/// A transport that must not be asked.
pub(crate) struct Nothing;

impl Transport for Nothing {
    fn open(&self, url: &str) -> Result<Body, TransportError> {
        panic!("`{url}` was fetched without need");
    }
}
