//! Measures pidlist against what one would use instead, both in one run.
//!
//! The machines this runs on are small, shared and noisy, so a figure on its own means little. Two
//! things are compared by measuring them in turns, A B A B…, so that what the neighbours do hits
//! both; the medians of all rounds are reported, and their ratio. Times are CPU time of the thread
//! that measures. Nothing here asserts a time.
//!
//! - [`measure`]: samplers, and taking turns.
//! - [`report`]: rows, as a table for people and as JSON for programs.
//! - [`area`]: what is measured, a module an area.

pub mod area;
mod host;
pub mod measure;
pub mod report;
