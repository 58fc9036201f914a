mod cache;
mod concurrent;
mod failures;
mod hardship;
mod layers;
mod normal;
mod reproducible;
mod runs;
