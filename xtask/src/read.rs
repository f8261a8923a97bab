//! Serving the book to a reader.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::error::{Error, Result};
use crate::places::{Places, variable};
use crate::process;

/// Says so before set-up starts, if the port is taken.
pub fn refuse_a_busy_port(port: u16) -> Result<()> {
    if is_free(port) {
        return Ok(());
    }
    let free =
        (port.saturating_add(1)..=u16::MAX).find(|&port| is_free(port)).unwrap_or(0);
    Err(Error::PortInUse { port, free })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Serves the book until it is stopped; the pages follow changes to their sources.
pub fn serve(places: &Places, mdbook: &Path, port: u16, open: bool) -> Result<ExitCode> {
    refuse_a_busy_port(port)?;
    let mut serve = Command::new(mdbook);
    serve
        .args(["serve", "--hostname", "127.0.0.1", "--port", &port.to_string()])
        .current_dir(&places.root);
    if open && can_open_a_browser() {
        serve.arg("--open");
    }
    println!("The book: http://127.0.0.1:{port} (Ctrl-C ends it)");
    process::follow(&mut serve)
}

/// Over ssh or in a container there is no screen to open a window on.
fn can_open_a_browser() -> bool {
    let has_screen =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| variable(name).is_some());
    has_screen || cfg!(any(target_os = "macos", target_os = "windows"))
}
