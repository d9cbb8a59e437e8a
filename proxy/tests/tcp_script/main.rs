//! Transcripts of the TCP engine: segments in and out at virtual times, named by what the RFCs ask for.

mod runner;
mod open;
mod transfer;
mod window;
mod loss;
mod rack;
mod tail;
mod reduction;
mod undo;
mod close;
mod congestion;
mod ecn;
mod early;
mod hostile;
mod liveness;
mod path;
mod urgent;
