//! What the filters of one proxy core share.

/// One per proxy core; every call of a filter may use it.
#[derive(Debug, Default)]
pub struct Services {}
