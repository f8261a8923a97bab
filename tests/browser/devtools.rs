//! A browser, and talking to it by the DevTools protocol: commands and answers in JSON over a WebSocket.
//!
//! Each page has a connection of its own. What the browser reports comes in the order in which it happened, so all that a
//! page did before it answered has been heard when the answer is there. No thread is needed.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde_json::{json, Value};
use tempfile::TempDir;
use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

/// How long anything may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A browser without a window, which ends when it is dropped.
pub struct Browser {
    process: Child,
    port: u16,
    connection: Mutex<Connection>, // tests open pages at the same time
    _profile: TempDir,             // after the process
}

impl Browser {
    /// Starts the browser at `path` with an empty profile.
    pub fn start(path: &Path) -> io::Result<Self> {
        let profile = tempfile::tempdir()?;
        let process = Command::new(path)
            .args([
                "--headless",
                "--disable-gpu",
                "--no-first-run",
                "--no-default-browser-check",
            ])
            .arg("--no-sandbox") // it does not start for root, and our own pages need no cage
            .args(["--disable-dev-shm-usage", "--disable-extensions", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update"])
            // Nothing outside this machine can be reached, by a page or by the browser itself.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--remote-debugging-port=0") // any that is free
            .args(["--hide-scrollbars", "about:blank"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut process = Ended(Some(process)); // also if it says nothing
                                                // Where it listens, it writes here.
        let note = profile.path().join("DevToolsActivePort");
        let start = Instant::now();
        let (port, target) = loop {
            let text = fs::read_to_string(&note).unwrap_or_default();
            if let Some((port, target)) = text.split_once('\n') {
                break (
                    port.parse().map_err(io::Error::other)?,
                    target.trim().to_owned(),
                );
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(
                    "it started and opened no port for this test",
                ));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let connection = Mutex::new(Connection::open(port, &target));
        let process = process.0.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { process, port, connection, _profile: profile })
    }

    /// Opens an empty page.
    ///
    /// It gets a window of its own: a page behind another is not drawn, and what is not drawn feels no finger.
    pub fn open(&self) -> Connection {
        let settings = json!({ "url": "about:blank", "newWindow": true });
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let page = connection.command("Target.createTarget", settings);
        let id = page["targetId"].as_str().unwrap();
        Connection::open(self.port, &format!("/devtools/page/{id}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends a process that nobody took over.
struct Ended(Option<Child>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A connection to a page, or to the browser itself.
pub struct Connection {
    socket: RefCell<WebSocket<TcpStream>>,
    commands: Cell<u64>,
    /// What was reported so far, from the first to the last: `method` and `params`.
    pub reports: RefCell<Vec<Value>>,
}

impl Connection {
    fn open(port: u16, target: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = format!("ws://127.0.0.1:{port}{target}");
        // All weights of all words come as one message.
        let of_any_size =
            WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = client_with_config(address, stream, Some(of_any_size)).unwrap();
        Self {
            socket: socket.into(),
            commands: Cell::new(0),
            reports: RefCell::default(),
        }
    }

    /// Gives a command and waits for the answer.
    pub fn command(&self, method: &str, settings: Value) -> Value {
        let id = self.commands.get() + 1;
        self.commands.set(id);
        let command = json!({ "id": id, "method": method, "params": settings });
        let mut socket = self.socket.borrow_mut();
        socket.send(Message::text(command.to_string())).unwrap();
        loop {
            let message =
                socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Message::Text(text) = message else { continue };
            let mut said: Value = serde_json::from_str(&text).unwrap();
            if said["id"].is_null() {
                self.reports.borrow_mut().push(said);
            } else if said["id"] == id {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].take();
            }
        }
    }
}
