//! One process of a deployment: started, watched, killed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use gatewatch::clock::Stopwatch;

/// A running process whose log is kept.
pub struct Replica {
    child: Child,
    log: PathBuf,
    // Removed with the replica.
    _folder: tempfile::TempDir,
}

impl Replica {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            _folder: folder,
        }
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it is still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it without a chance to say goodbye. It must have been running.
    pub fn kill(mut self) -> String {
        assert!(self.runs(), "it ended by itself:\n{}", self.log());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log()
    }

    /// Memory that it holds now, MiB (Linux).
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() / 1_024
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Tells it to stop and waits until it has; it must do so in good order.
    pub fn stop(mut self) -> String {
        assert!(self.runs(), "it ended by itself:\n{}", self.log());
        self.signal("TERM");
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.log());
        self.log()
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let watch = Stopwatch::start();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                watch.elapsed() < Duration::from_mins(3),
                "it does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has said this.
    pub async fn says(&mut self, words: &str) {
        let watch = Stopwatch::start();
        while !self.log().contains(words) {
            assert!(
                self.runs() && watch.elapsed() < Duration::from_mins(3),
                "it has not said {words:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // A process that has ended needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
