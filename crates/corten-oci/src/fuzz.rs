//! Entry points for fuzzing: each takes any bytes, may refuse them, and must not panic.

use crate::image::{ImageConfig, Index, Manifest};
use crate::reference::Reference;
use crate::tar::Reader;
use crate::tree::Tree;

/// Reads a layer tar: its entries and then, again, as a tree that is written and read back.
pub fn tar(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while let Ok(Some(_)) = reader.next_entry() {
        if std::io::copy(&mut reader, &mut std::io::sink()).is_err() {
            break;
        }
    }
    let Ok(tree) = Tree::from_tar(bytes) else { return };
    let mut written = Vec::new();
    if tree.write_tar(&mut written).is_ok() {
        let again = Tree::from_tar(written.as_slice()).expect("our own tar can be read");
        assert_eq!(tree.canonical(), again.canonical(), "a tree survives being written");
    }
}

/// Parses a reference; what is accepted prints and parses to itself.
pub fn reference(text: &str) {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
        assert_eq!(reference.familiar().parse(), Ok(reference));
    }
}

/// Parses a manifest, an index and a configuration; what is accepted is written and read back equal.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let again = Manifest::parse(&crate::json::canonical(&manifest));
        assert_eq!(again.expect("our own manifest can be read"), manifest);
    }
    if let Ok(index) = Index::parse(bytes) {
        let again = Index::parse(&crate::json::canonical(&index));
        assert_eq!(again.expect("our own index can be read"), index);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let again = ImageConfig::parse(&crate::json::canonical(&config));
        assert_eq!(again.expect("our own configuration can be read"), config);
    }
}
