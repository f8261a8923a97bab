//! Running other programs.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use crate::error::{Error, Result};

/// Runs a program to its end with this program's input and output, and gives its exit code.
pub fn follow(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().map_err(start(command))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs a program, shows what it prints as it comes, and keeps what it printed to standard error.
pub fn watch(command: &mut Command) -> Result<(ExitStatus, String)> {
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(start(command))?;
    let mut said = Vec::new();
    if let Some(mut errors) = child.stderr.take() {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = errors.read(&mut piece) {
            // A closed terminal is no reason to stop.
            let _ = std::io::stderr().write_all(&piece[..length]);
            said.extend_from_slice(&piece[..length]);
        }
    }
    let status = child.wait().map_err(start(command))?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// What a program prints to standard output, if there is such a program and it ends well.
pub fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// For `map_err`: which program it was.
pub fn start(command: &Command) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let program = command.get_program().to_string_lossy().into_owned();
    move |source| Error::Start { program, source }
}

/// Whether what a program printed speaks of a network that is not there.
pub fn speaks_of_no_network(said: &str) -> bool {
    [
        "NewConnectionError",
        "Failed to establish a new connection",
        "NameResolutionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ProxyError",
        "Connection refused",
        "Connection reset",
        "Connection aborted",
        "Network is unreachable",
        "name resolution",
        "Could not resolve host",
        "Couldn't resolve host",
        "Could not connect to server",
        "Timeout was reached",
    ]
    .iter()
    .any(|sign| said.contains(sign))
}
