//! Diagnostics as text and as JSON.

mod concise;
mod full;
mod json;

pub use concise::concise;
pub use full::full;
pub use json::{JSON_VERSION, json};
