//! Ports of `EXPOSE`.

use corten_dockerfile::port::{self, Exposed};

use super::Finding;
use crate::model::{Model, Step};

pub(super) fn protocol_casing(model: &Model<'_>) -> Vec<Finding> {
    ports(model)
        .filter(|(_, _, exposed)| exposed.protocol_in_upper_case)
        .map(|(step, text, _)| {
            Finding::step(step, format!("the protocol of `{text}` is not in lower case"))
                .hint(format!("write `{}`", text.to_lowercase()))
        })
        .collect()
}

pub(super) fn invalid_format(model: &Model<'_>) -> Vec<Finding> {
    ports(model)
        .filter(|(_, _, exposed)| exposed.has_host_part)
        .map(|(step, text, _)| {
            let message = format!("`{text}` has an address or a port of the host");
            let container = text.rsplit(':').next().unwrap_or(text);
            Finding::step(step, message)
                .hint(format!("write `{container}`; `corten run -p` says where on the host it is"))
        })
        .collect()
}

/// Every port up to the first that is none in its instruction.
fn ports<'m>(model: &'m Model<'_>) -> impl Iterator<Item = (&'m Step<'m>, &'m str, Exposed)> {
    model.steps.iter().flat_map(|step| {
        let read = move |text: &'m String| Some((step, text.as_str(), port::parse(text).ok()?));
        step.details.ports.iter().map_while(read)
    })
}
