//! What tests over memif share: memory that two processes share as two ends of a cable, so that neither hardware nor
//! privilege is needed. The device under test is the server, the generator the client.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, process, thread};

use pnat_perf::load::result::LoadResult;

/// Arguments of a memif device: cable `name` in `dir`.
pub(super) fn memif(role: &str, dir: &Path, name: &str) -> String {
    format!("role={role},socket={}/{name}.sock,socket-abstract=no", dir.display())
}

pub(super) fn directory(name: &str) -> PathBuf {
    let dir = env::temp_dir().join(format!("pnat-perf-{name}-{}", process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Starts to send a load by `pnat-perf load` into cable `a`, and to receive it from cable `b`.
pub(super) fn load(dir: &Path, load: &str, medium: &str) -> Loading {
    let (file, out) = (dir.join("memif.toml"), dir.join("out"));
    let text = format!(
        "{load}\n[medium]\ntype = \"dpdk\"\n{medium}\nsend = {{ device = \"net_memif0\", args = \"{}\" }}\n\
         receive = {{ device = \"net_memif1\", args = \"{}\" }}",
        memif("client", dir, "a"),
        memif("client", dir, "b"),
    );
    fs::write(&file, text).expect("written");
    let process = Command::new(env!("CARGO_BIN_EXE_pnat-perf"))
        .args(["load".as_ref(), file.as_os_str(), "--hold".as_ref(), "--out".as_ref(), out.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    Loading { process, out }
}

/// A load that is under way; it stays until the device under test has gone.
pub(super) struct Loading {
    process: Child,
    out: PathBuf,
}

impl Loading {
    /// Waits for its end, sees that the device goes by `end`, and says what was counted.
    pub(super) fn result(mut self, end: impl FnOnce()) -> LoadResult {
        // The last of the files to be written.
        let last = self.out.join("late.hgrm");
        let mut has_ended = false;
        let is_written = wait_until(|| {
            has_ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            has_ended || last.exists()
        });
        end();
        if !is_written {
            self.process.kill().expect("it runs");
        }
        let output = self.process.wait_with_output().expect("it has ended");
        assert!(!has_ended && output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json = fs::read(self.out.join("result.json")).expect("result.json");
        serde_json::from_slice(&json).expect("readable")
    }
}

/// Waits until the condition holds, half a minute at most.
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
pub(super) fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    (0..600).any(|_| {
        let holds = condition();
        if !holds {
            thread::sleep(Duration::from_millis(50));
        }
        holds
    })
}
