//! `pnat top` in a terminal: what it draws there, and that it leaves the terminal as it was.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Switches to the screen that programs draw on, and back to the one that was there.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// Enough to draw and long enough to wait on any machine; a test that passes never does.
const ENOUGH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);
/// Is on the screen when the gateway did not answer.
const AWAY: &str = "no gateway answers at no-gateway.sock";

/// A terminal of 80 by 24 with `pnat top` in it, asking a gateway that is not there.
struct Terminal {
    /// The side of the keyboard.
    keys: File,
    /// The side of the program.
    line: File,
    drawn: Receiver<Vec<u8>>,
    program: Child,
}

impl Terminal {
    fn new() -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keys).expect("granted");
        unlockpt(&keys).expect("unlocked");
        let name = ptsname(&keys, Vec::new()).expect("a name");
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).expect("a size");
        let (keys, line) = (File::from(keys), File::from(line));
        let end = || Stdio::from(line.try_clone().expect("cloned"));
        let program = Command::new(env!("CARGO_BIN_EXE_pnat"))
            .args(["top", "--socket", "no-gateway.sock", "--interval", "100ms"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("runs");
        let (sender, drawn) = channel();
        let mut screen = keys.try_clone().expect("cloned");
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keys, line, drawn, program }
    }

    /// What is drawn until this is.
    fn until(&self, text: &str) -> String {
        let mut seen = String::new();
        for _ in 0..ENOUGH {
            if seen.contains(text) {
                return seen;
            }
            let Ok(drawn) = self.drawn.recv_timeout(PATIENCE) else { break };
            seen += &String::from_utf8_lossy(&drawn);
        }
        panic!("{text:?} is not in {seen:?}");
    }

    /// Whether what is typed is shown and waits for the end of its line, as for a shell.
    fn is_for_lines(&self) -> bool {
        let modes = tcgetattr(&self.line).expect("modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn ends(mut self) {
        self.until(LEAVE);
        assert!(self.program.wait().expect("ends").success());
        assert!(self.is_for_lines(), "the terminal is as before");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn top_gives_the_terminal_back_when_a_key_ends_it() {
    let mut terminal = Terminal::new();
    assert!(terminal.is_for_lines());
    let drawn = terminal.until(AWAY);
    assert!(drawn.contains(ENTER) && !drawn.contains(LEAVE), "{drawn:?}");
    assert!(!terminal.is_for_lines(), "keys come one by one");
    terminal.keys.write_all(b"q").expect("typed");
    terminal.ends();
}

#[test]
fn top_gives_the_terminal_back_when_a_signal_ends_it() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let terminal = Terminal::new();
        terminal.until(AWAY);
        kill_process(Pid::from_child(&terminal.program), signal).expect("sent");
        terminal.ends();
    }
}
