//! Where an image comes from, as a predicate that others can read: SLSA provenance v1,
//! <https://slsa.dev/spec/v1.0/provenance>.
//!
//! The same build gives the same predicate: it has no time, no name of a machine and no path of the
//! host. The smaller form has nothing that a caller may hold secret; the larger one also has the
//! values of build arguments, the names of secrets and every step.

use corten_oci::attestation::{Attestation, package_url};
use corten_oci::digest::Digest;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use serde_json::{Map, Value, json};

use crate::graph::{Graph, Op, RunMountKind};
use crate::options::{BuildOptions, Context, NamedContext};
use crate::plan::scope::PROXY_ARGS;
use crate::recording::{Materials, SourceMaterial};
use crate::remote::without_credentials;

/// The type of the predicate.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// What the parameters mean: the page docs/reference/provenance.md.
const BUILD_TYPE: &str =
    "https://github.com/corten-containers/corten/blob/main/docs/reference/provenance.md";

/// Who states it. A service that signs names itself in its signature.
const BUILDER: &str = "https://github.com/corten-containers/corten";

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// What was built, for what, from what.
    Min,
    /// Also the values of build arguments, the names of secrets and agents, and every step.
    Max,
}

/// Makes the statement about the image of one platform.
pub(crate) fn provenance(
    graph: &Graph,
    options: &BuildOptions,
    materials: &Materials,
    platform: &Platform,
    mode: ProvenanceMode,
) -> Attestation {
    let mut internal = Map::new();
    internal.insert("builderPlatform".into(), json!(Platform::host().to_string()));
    if mode == ProvenanceMode::Max {
        internal.insert("steps".into(), steps(graph));
    }
    let mut builder = Map::new();
    builder.insert("id".into(), json!(BUILDER));
    builder.insert("version".into(), json!({ "corten": env!("CARGO_PKG_VERSION") }));
    let predicate = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external(options, platform, mode),
            "internalParameters": internal,
            "resolvedDependencies": dependencies(materials),
        },
        "runDetails": { "builder": builder },
    });
    Attestation { predicate_type: PREDICATE_TYPE.to_owned(), predicate }
}

/// What the caller chose.
fn external(options: &BuildOptions, platform: &Platform, mode: ProvenanceMode) -> Value {
    let mut parameters = Map::new();
    let dockerfile = &options.dockerfile;
    let digest = Digest::of(dockerfile.text.as_bytes()).hex();
    // The path tells where the file was on that machine; its name is what the project calls it.
    let name = dockerfile.name.rsplit('/').next().unwrap_or("Dockerfile");
    parameters.insert("dockerfile".into(), json!({ "name": name, "digest": { "sha256": digest } }));
    parameters.insert("platform".into(), json!(platform.to_string()));
    let context = match &options.context {
        Context::Empty => "none",
        Context::Directory(_) => "directory",
        Context::Fetched { .. } => "fetched",
    };
    parameters.insert("context".into(), json!(context));
    if let Some(target) = &options.target {
        parameters.insert("target".into(), json!(target));
    }
    if let Some(epoch) = options.epoch {
        parameters.insert("sourceDateEpoch".into(), json!(epoch));
    }
    if mode == ProvenanceMode::Max {
        let hidden = |name: &str| PROXY_ARGS.contains(&name);
        let arguments: Map<String, Value> = options
            .build_args
            .iter()
            .filter(|(name, _)| !hidden(name))
            .map(|(name, value)| (name.clone(), json!(without_credentials(value))))
            .collect();
        parameters.insert("buildArguments".into(), Value::Object(arguments));
        parameters.insert("labels".into(), json!(options.labels));
        parameters.insert("secrets".into(), json!(options.secrets.keys().collect::<Vec<_>>()));
        parameters.insert("agents".into(), json!(options.agents.keys().collect::<Vec<_>>()));
        let contexts: Map<String, Value> = options
            .contexts
            .iter()
            .map(|(name, context)| (name.clone(), json!(context_text(context))))
            .collect();
        parameters.insert("contexts".into(), Value::Object(contexts));
    }
    Value::Object(parameters)
}

fn context_text(context: &NamedContext) -> String {
    match context {
        NamedContext::Directory(_) => "directory".to_owned(),
        NamedContext::Image(reference) => format!("docker-image://{reference}"),
        NamedContext::Remote(source) => source.address().to_string(),
        NamedContext::Stage(stage) => format!("target:{stage}"),
        NamedContext::Found(_) => "oci-layout".to_owned(),
    }
}

/// Everything that came from elsewhere, in the order of the materials.
fn dependencies(materials: &Materials) -> Vec<Value> {
    let mut dependencies = Vec::new();
    for base in &materials.bases {
        let uri = match (base.reference.parse::<Reference>(), base.platform.parse::<Platform>()) {
            (Ok(reference), Ok(platform)) => package_url(&reference, &platform),
            _ => base.reference.clone(),
        };
        dependencies.push(json!({ "uri": uri, "digest": { "sha256": base.digest.hex() } }));
    }
    for source in &materials.sources {
        dependencies.push(match source {
            SourceMaterial::Http { url, sha256 } => {
                json!({ "uri": url, "digest": { "sha256": sha256.hex() } })
            }
            SourceMaterial::Git { url, reference, commit } => {
                let reference = reference.as_ref().map(|name| format!("@{name}"));
                let uri = format!("git+{url}{}", reference.unwrap_or_default());
                let kind = if commit.len() == 64 { "sha256" } else { "gitCommit" };
                json!({ "uri": uri, "digest": { kind: commit } })
            }
        });
    }
    for fetched in &materials.fetched {
        let Some(artifact) = fetched.artifact() else { continue };
        dependencies.push(json!({
            "uri": fetched.key.url,
            "digest": { "sha256": fetched.sha256.hex() },
            "name": artifact.name,
            "annotations": { "kind": artifact.kind.as_str(), "version": artifact.version },
        }));
    }
    dependencies
}

/// Every step of the graph, with what it mounts.
fn steps(graph: &Graph) -> Value {
    let mut steps = Vec::new();
    for stage in &graph.stages {
        for step in &stage.steps {
            let mut entry = Map::new();
            entry.insert("stage".into(), json!(stage.name));
            entry.insert("instruction".into(), json!(without_credentials(&step.title)));
            if let Op::Run(run) = &step.op {
                let secrets = run.mounts.iter().filter_map(|mount| match &mount.kind {
                    RunMountKind::Secret { id, .. } => Some(id),
                    _ => None,
                });
                entry.insert("network".into(), json!(format!("{:?}", run.network).to_lowercase()));
                entry.insert("secrets".into(), json!(secrets.collect::<Vec<_>>()));
            }
            steps.push(Value::Object(entry));
        }
    }
    Value::Array(steps)
}
