//! The container's file of hosts, once its addresses are known.
//!
//! The file is one of ours, in a file system in memory over the image's (see `Step::Files`). What it says in
//! the end goes to the container's process with the word to go on, and that writes it: who looks from
//! outside cannot know what its root is at the time.

use crate::error::RunError;
use crate::network::{Attachment, HostAddress, resolv};
use crate::plan::Plan;
use crate::report::GO;
use crate::spec::hosts_of;

/// Returns the message that lets the container go on, with its file of hosts where that changes.
pub(super) fn word(plan: &Plan, attached: Option<&Attachment>) -> Result<Vec<u8>, RunError> {
    let mut word = GO.to_vec();
    let network = &plan.network;
    let (Some(hostname), Some(attached)) = (&network.hostname, attached) else { return Ok(word) };
    let hosts = &network.networking.hosts;
    let gateway = attached.gateway();
    let waits = hosts.iter().any(|(_, address)| *address == HostAddress::Gateway);
    if waits && gateway.is_none() {
        return Err(RunError::NoHostGateway);
    }
    if !attached.addresses().is_empty() {
        let extra = hosts_of(hosts, gateway);
        let text = resolv::hosts_file(hostname, attached.addresses(), &extra);
        word.extend_from_slice(text.as_bytes());
    }
    Ok(word)
}
