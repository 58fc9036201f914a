//! The file of `--metadata-file`, with the keys that BuildKit writes.

use corten_oci::image::Descriptor;
use serde_json::{Map, Value, json};

use super::write::Written;
use crate::Target;

/// Returns the keys; of several images the last one counts, as in BuildKit. A build that made no
/// image has none. Those of an index are without the digest of a configuration.
pub fn metadata(targets: &[Target], written: &[Written]) -> Value {
    let mut keys = Map::new();
    let image = written.iter().rev().find_map(|w| Some((w, w.descriptor.as_ref()?)));
    if let Some((written, descriptor)) = image {
        if let [target] = targets {
            keys.insert("containerimage.config.digest".into(), json!(target.id().to_string()));
        }
        keys.insert("containerimage.descriptor".into(), describe(descriptor));
        keys.insert("containerimage.digest".into(), json!(descriptor.digest.to_string()));
        for target in targets {
            for attestation in &target.attestations {
                let key = match targets.len() {
                    1 => "buildx.build.provenance".to_owned(),
                    _ => format!("buildx.build.provenance/{}", target.config.platform()),
                };
                keys.insert(key, attestation.predicate.clone());
            }
        }
        if !written.names.is_empty() {
            let names: Vec<String> = written.names.iter().map(ToString::to_string).collect();
            keys.insert("image.name".into(), json!(names.join(",")));
        }
    }
    Value::Object(keys)
}

fn describe(descriptor: &Descriptor) -> Value {
    let mut fields = Map::new();
    if !descriptor.annotations.is_empty() {
        fields.insert("annotations".into(), json!(descriptor.annotations));
    }
    fields.insert("digest".into(), json!(descriptor.digest.to_string()));
    fields.insert("mediaType".into(), json!(descriptor.media_type));
    if let Some(platform) = &descriptor.platform {
        fields.insert("platform".into(), json!(platform));
    }
    fields.insert("size".into(), json!(descriptor.size));
    Value::Object(fields)
}
