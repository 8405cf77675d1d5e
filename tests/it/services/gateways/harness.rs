//! A gateway with its API behind it and a pipeline that reads its log: one folder, a few processes, all ended with the test.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gatewatch::clock::Stopwatch;

use super::super::free_ports;
use super::client::{Client, Issuer, shop};
use crate::command::output;

/// How long anything may take that is waited for. A bound against hanging, not a goal.
pub const DEADLINE: Duration = Duration::from_mins(3);

/// What readers of the feeds show.
pub const KEY: &str = "a-bouncer-key-of-the-tests";

/// The access log.
pub const LOG: &str = "gatewatch.log";

/// Folder of the programs, or `None` after saying that `test` is skipped.
pub fn programs(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("GATEWATCH_TEST_GATEWAYS").filter(|f| !f.is_empty()) {
        return Some(folder.into());
    }
    assert!(
        std::env::var_os("GATEWATCH_TEST_REQUIRED").is_none(),
        "{test} needs the gateways of tests/services/run"
    );
    eprintln!("SKIPPED {test}: no gateways (tests/services/run --only gateways fetches them)");
    None
}

/// A file of the repository.
pub fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("pipelines/gateways")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An example with the part that is called `title` switched on: its lines lose their first comment sign.
pub fn switched_on(text: &str, title: &str) -> String {
    let (mut inside, mut found) = (false, false);
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.contains(&format!("---- {title}")) {
            inside = true;
            found = true;
        } else if inside
            && line
                .trim()
                .bytes()
                .all(|byte| matches!(byte, b'#' | b'-' | b' '))
        {
            inside = false;
        } else if inside {
            lines.push(line.replacen("# ", "", 1));
            continue;
        }
        lines.push(line.to_owned());
    }
    assert!(found, "no part is called {title:?}");
    lines.join("\n") + "\n"
}

/// `text` with replacements, each of which must be there.
pub fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old:?} is not in the example");
        text.replace(old, new)
    })
}

/// A process that ends with its owner.
pub struct Process(Child);

impl Process {
    /// Starts it in `folder`. Both outputs go into files there, standard output into `output`.
    pub fn start(program: &Path, arguments: &[&str], folder: &Path, output: &str) -> Self {
        let append = |name: &str| {
            let file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder.join(name));
            file.unwrap()
        };
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(append(output))
            .stderr(append(&format!("{output}.err")))
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let began = Stopwatch::start();
        while self.running() && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until somebody listens.
pub async fn listens(port: u16, what: &str) {
    let began = Stopwatch::start();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(began.elapsed() < DEADLINE, "{what} does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One arrangement under test.
pub struct Site {
    gateway: Option<Process>,
    pipeline: Option<Process>,
    /// Goes last, when nobody writes into it any more.
    pub folder: tempfile::TempDir,
    pub programs: PathBuf,
    pub issuer: Issuer,
    /// The gateway's port.
    pub port: u16,
    /// The pipeline's ports: feeds and check, gRPC.
    pub api: u16,
    pub grpc: u16,
    pub shop: u16,
}

impl Site {
    /// A folder with the pipeline's files and nothing running. `exporters` is TOML.
    pub fn new(programs: PathBuf, format: &str, exporters: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("gatewatch-gw-")
            .tempdir()
            .unwrap();
        // The gateway's workers may be another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), mode).unwrap();
        let [port, api, grpc] = free_ports();
        let issuer = Issuer::new();
        fs::create_dir(folder.path().join("export")).unwrap();
        fs::write(folder.path().join(LOG), "").unwrap();
        fs::write(folder.path().join("bouncer.key"), KEY).unwrap();
        fs::write(folder.path().join("jwks.json"), issuer.jwks()).unwrap();
        let pipeline = include_str!("pipeline.toml")
            .replace("@FORMAT@", format)
            .replace("@API@", &api.to_string())
            .replace("@GRPC@", &grpc.to_string())
            + exporters;
        fs::write(folder.path().join("pipeline.toml"), pipeline).unwrap();
        Self {
            folder,
            programs,
            issuer,
            port,
            api,
            grpc,
            shop: shop(),
            gateway: None,
            pipeline: None,
        }
    }

    /// The folder, without a slash at its end: configurations and exporters must name files alike.
    pub fn dir(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts the pipeline, and waits until its exporters have written their files.
    pub async fn start_pipeline(&mut self, exported: &[&str]) {
        let program = Path::new(env!("CARGO_BIN_EXE_gatewatch"));
        let mut pipeline = Process::start(
            program,
            &["run", "pipeline.toml"],
            self.folder.path(),
            "run.out",
        );
        let began = Stopwatch::start();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.api)).is_err() {
            let said = || fs::read_to_string(self.path("run.out")).unwrap();
            assert!(pipeline.running(), "the pipeline has ended: {}", said());
            assert!(began.elapsed() < DEADLINE, "no server: {}", said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.pipeline = Some(pipeline);
        // A bouncer whose first question is answered with 503 never asks again (custom bouncer 0.0.15).
        let reader = Client::at(Ipv4Addr::LOCALHOST).with("X-Api-Key", KEY);
        while reader.get(self.api, "/v1/decisions").await != Some(200) {
            assert!(began.elapsed() < DEADLINE, "the list is not read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while !exported
            .iter()
            .all(|name| Path::new(&self.path(name)).exists())
        {
            assert!(began.elapsed() < DEADLINE, "nothing was exported");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn stop_pipeline(&mut self) {
        self.pipeline = None;
    }

    /// Starts the gateway, and waits until it listens.
    pub async fn start_gateway(&mut self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        // HAProxy's log is its standard output.
        let output = if program.ends_with("haproxy") {
            LOG
        } else {
            "gateway.out"
        };
        self.gateway = Some(Process::start(
            &program,
            arguments,
            self.folder.path(),
            output,
        ));
        listens(self.port, "the gateway").await;
    }

    pub fn stop_gateway(&mut self) {
        self.gateway = None;
    }

    /// Replaces a file of the folder whole.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Adds to a file of the folder, which is made when it is not there.
    pub fn append(&self, name: &str, text: &str) {
        let before = fs::read_to_string(self.path(name)).unwrap_or_default();
        self.write(name, &(before + text));
    }

    /// `gatewatch blocklist …`, which must succeed.
    pub fn blocklist(&self, arguments: &[&str]) -> String {
        let output = self.try_blocklist(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `gatewatch blocklist …`, whatever becomes of it.
    pub fn try_blocklist(&self, arguments: &[&str]) -> Output {
        let pipeline = self.path("pipeline.toml");
        output(&[&["blocklist", pipeline.as_str()], arguments].concat())
    }

    /// What a task of its own needs to ask this site.
    pub fn probe(&self) -> Probe {
        Probe {
            port: self.port,
            pipeline: self.path("pipeline.toml"),
        }
    }

    /// As [`Probe::until`].
    pub async fn until(&self, client: &Client, status: u16) -> Duration {
        self.probe().until(client, status).await
    }
}

/// Asks the gateway of a site.
#[derive(Clone)]
pub struct Probe {
    pub port: u16,
    pipeline: String,
}

impl Probe {
    /// Sends requests until one is answered with `status`. How long that took.
    pub async fn until(&self, client: &Client, status: u16) -> Duration {
        let began = Stopwatch::start();
        let mut last = None;
        while began.elapsed() < DEADLINE {
            last = client.get(self.port, "/orders").await;
            if last == Some(status) {
                return began.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let listed = output(&["blocklist", &self.pipeline, "show"]);
        let listed = String::from_utf8_lossy(&listed.stdout);
        panic!("{client:?} gets {last:?} and not {status}\n{listed}");
    }
}

/// Percentiles in words.
pub fn spread(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    println!(
        "{what}: p50 {:.2?}, p90 {:.2?}, p99 {:.2?}, worst {:.2?} of {} trials (goal: p99 < 5 s)",
        at(50),
        at(90),
        at(99),
        times.last().unwrap(),
        times.len()
    );
}
