//! Tests of the whole, on the real kernel.

mod privileged;
