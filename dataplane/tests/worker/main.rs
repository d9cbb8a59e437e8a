//! A worker from outside: frames in, frames out.

mod text;
mod world;
mod cases;
mod shards;
mod control;
mod path_mtu;
mod check;
mod property;
