//! Foreign bytes are read or refused, whatever they are.

use proptest::prelude::*;

use super::*;
use crate::packages::Universe;
use crate::release::Release;

fn archive() -> Vec<u8> {
    let control: Vec<_> =
        [("control", 0o644, APP.control)].into_iter().chain(APP.scripts.iter().copied()).collect();
    crate::deb::tests::deb(&control, APP.files, MTIME)
}

const IDENTITY: Identity<'static> = Identity { name: "app", version: "2.0-1", architecture: "all" };

proptest! {
    #[test]
    fn a_damaged_package_is_unpacked_or_refused(
        at in 0_usize..1200, bytes: [u8; 4], length in 0_usize..1600
    ) {
        let folder = TempDir::new();
        let spool = Spool::new(folder.path());
        let mut file = archive();
        for (target, byte) in file.iter_mut().skip(at).zip(bytes) {
            *target = byte;
        }
        file.truncate(length.max(8));
        drop(unpack(file.as_slice(), &IDENTITY, &Filter::default(), &spool));
    }

    #[test]
    fn any_text_is_an_index(text in "((Package|Version|Depends|Provides|Architecture|Size|Filename): [ -~]{0,20}\n|\n| [ -~]{0,9}\n){0,12}") {
        let universe = Universe::new(&[&text], "amd64");
        let request = crate::resolve::Request { required: true, add: vec!["a"], ..Default::default() };
        drop(crate::resolve::resolve(&universe, &request));
    }

    #[test]
    fn an_unsigned_index_is_refused_whatever_it_says(text in "(?s).{0,200}") {
        let signer = repository::Signer::new();
        let now = corten_sys::clock::Timestamp::from_seconds(repository::NOW);
        prop_assert!(Release::verify(text.as_bytes(), &signer.keyring(), now).is_err());
    }
}

#[test]
fn nothing_that_is_added_to_a_signed_index_is_believed() {
    let repository = repository();
    let url = format!("{MIRROR}/dists/bookworm/InRelease");
    let signed = String::from_utf8(repository.files[&url].clone()).unwrap();
    let now = corten_sys::clock::Timestamp::from_seconds(repository::NOW);
    let keyring = repository.signer.keyring();
    let honest = Release::verify(signed.as_bytes(), &keyring, now).unwrap();
    let evil = "SHA256:\n 0000000000000000000000000000000000000000000000000000000000000000 1 main/binary-amd64/Packages\n";
    for text in [format!("{evil}\n{signed}"), format!("{signed}\n{evil}")] {
        // Refused, or read as if it were not there.
        if let Ok(release) = Release::verify(text.as_bytes(), &keyring, now) {
            assert_eq!(release.files, honest.files);
        }
    }
}
