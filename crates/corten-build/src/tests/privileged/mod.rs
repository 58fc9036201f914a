mod cache;
mod concurrent;
mod failures;
mod hardship;
mod layers;
mod reproducible;
mod runs;
