//! Scratch clusters, sample data, the tour: all of pgmeridian on one machine, with one command.

pub mod cluster;
mod sample;
mod scratch;
