//! Events as BuildKit's `rawjson` has them: a line for each, with its vertexes, statuses, logs and
//! warnings. Types and names of the fields are those of `SolveStatus` in BuildKit's `client/graph.go`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use corten_diag::{Event, Outcome, StepId, Stream};
use corten_oci::digest::Digest;
use corten_oci::time;
use corten_sys::clock::Timestamp;
use serde_json::{Map, Value, json};

/// What must be said again when a step ends.
#[derive(Debug, Default)]
pub(super) struct Vertexes {
    steps: BTreeMap<StepId, Vertex>,
    tasks: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Vertex {
    digest: String,
    name: String,
    started: String,
}

impl Vertexes {
    /// The line for an event.
    pub(super) fn line(&mut self, event: &Event, now: Timestamp) -> Value {
        let now = stamp(now);
        match event {
            Event::StepStarted { step, total, title } => {
                let name = super::progress::titled(*step, *total, title);
                let digest = Digest::of(format!("{step} {name}").as_bytes()).to_string();
                let vertex = Vertex { digest, name, started: now };
                let line = json!({ "vertexes": [vertex.value()] });
                self.steps.insert(*step, vertex);
                line
            }
            Event::StepOutput { step, stream, bytes } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                let data = BASE64_STANDARD.encode(bytes);
                let vertex = self.steps.get(step).map(|vertex| &vertex.digest);
                json!({ "logs": [
                    { "vertex": vertex, "stream": stream, "data": data, "timestamp": now },
                ] })
            }
            Event::StepFinished { step, outcome, .. } => {
                let mut value = self.steps.remove(step).map(|v| v.value()).unwrap_or_default();
                value.insert("completed".to_owned(), json!(now));
                match outcome {
                    Outcome::Done => {}
                    Outcome::Cached => drop(value.insert("cached".to_owned(), json!(true))),
                    Outcome::Failed => {
                        value.insert("error".to_owned(), json!("the step failed"));
                    }
                }
                json!({ "vertexes": [value] })
            }
            Event::Progress { task, done, total, .. } => {
                let started = self.tasks.entry(task.clone()).or_insert_with(|| now.clone()).clone();
                let mut status = Map::new();
                status.insert("id".to_owned(), json!(task));
                if let Some(total) = total {
                    status.insert("total".to_owned(), json!(total));
                }
                status.insert("current".to_owned(), json!(done));
                status.insert("timestamp".to_owned(), json!(now));
                status.insert("started".to_owned(), json!(started));
                if *total == Some(*done) {
                    self.tasks.remove(task);
                    status.insert("completed".to_owned(), json!(now));
                }
                json!({ "statuses": [status] })
            }
            Event::Notice(text) | Event::Warning(text) => warning(text, None),
            Event::Diagnostic(diagnostic) => {
                warning(&diagnostic.message, diagnostic.hint.as_deref())
            }
        }
    }
}

impl Vertex {
    fn value(&self) -> Map<String, Value> {
        let fields = [("digest", &self.digest), ("name", &self.name), ("started", &self.started)];
        fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }
}

fn warning(text: &str, detail: Option<&str>) -> Value {
    let short = BASE64_STANDARD.encode(text);
    match detail {
        None => json!({ "warnings": [{ "level": 1, "short": short }] }),
        Some(detail) => {
            let detail = BASE64_STANDARD.encode(detail);
            json!({ "warnings": [{ "level": 1, "short": short, "detail": [detail] }] })
        }
    }
}

/// RFC 3339 with nanoseconds, as Go writes it.
fn stamp(at: Timestamp) -> String {
    let whole = time::rfc3339(at.seconds);
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), at.nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corten_diag::Unit;
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_build_has_the_lines_of_buildkit() {
        let step = StepId(1);
        let events = [
            Event::StepStarted { step, total: 2, title: "RUN x".to_owned() },
            Event::StepOutput { step, stream: Stream::Stderr, bytes: b"hi\n".to_vec() },
            Event::Progress {
                task: "fetch".to_owned(),
                done: 5,
                total: Some(5),
                unit: Unit::Bytes,
            },
            Event::Warning("old".to_owned()),
            Event::StepFinished { step, outcome: Outcome::Cached, elapsed: Duration::ZERO },
        ];
        let mut vertexes = Vertexes::default();
        let now = Timestamp { seconds: 1, nanoseconds: 5_000_000 };
        let lines: Vec<String> =
            events.iter().map(|event| vertexes.line(event, now).to_string()).collect();
        expect![[r#"
            {"vertexes":[{"digest":"sha256:8f38266517817bddbcc26af78f5dd529531f19935656251940b923fee63d4c48","name":"[1/2] RUN x","started":"1970-01-01T00:00:01.005000000Z"}]}
            {"logs":[{"data":"aGkK","stream":2,"timestamp":"1970-01-01T00:00:01.005000000Z","vertex":"sha256:8f38266517817bddbcc26af78f5dd529531f19935656251940b923fee63d4c48"}]}
            {"statuses":[{"completed":"1970-01-01T00:00:01.005000000Z","current":5,"id":"fetch","started":"1970-01-01T00:00:01.005000000Z","timestamp":"1970-01-01T00:00:01.005000000Z","total":5}]}
            {"warnings":[{"level":1,"short":"b2xk"}]}
            {"vertexes":[{"cached":true,"completed":"1970-01-01T00:00:01.005000000Z","digest":"sha256:8f38266517817bddbcc26af78f5dd529531f19935656251940b923fee63d4c48","name":"[1/2] RUN x","started":"1970-01-01T00:00:01.005000000Z"}]}"#]].assert_eq(&lines.join("\n"));
    }
}
