mod cache;
mod concurrent;
mod failures;
mod layers;
mod reproducible;
mod runs;
