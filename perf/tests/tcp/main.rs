//! The generator's connections against known truth: a wire whose faults are told, and the gateway in memory.

mod fixture;
mod talks;
mod faults;
mod limits;
mod command;
