//! A directory of one test.

use std::path::{Path, PathBuf};

/// Removed at the end of its test.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pnat-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
