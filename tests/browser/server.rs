//! A server of files, as plain as the hosts the book may come to live on.

use std::fs;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// The book is not at the root of its host, so that a link which needs that is found out.
const UNDER: &str = "/some/where/";

/// Serves a folder on a free port of this machine until the tests end, and gives its address.
pub fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            thread::spawn(move || answer(stream, &folder)); // browsers open more connections than they use
        }
    });
    format!("http://{address}{UNDER}")
}

fn answer(mut stream: TcpStream, folder: &Path) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let asked = lines.next().transpose()?.unwrap_or_default(); // GET /some/where/page.html HTTP/1.1
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let target = asked.split(' ').nth(1).unwrap_or_default();
    let file = target.split(['?', '#']).next().and_then(|path| path.strip_prefix(UNDER));
    let found = file.filter(|file| !file.contains("..")).map(|file| folder.join(file));
    let (status, body) = match found.as_ref().map(fs::read) {
        Some(Ok(body)) => ("200 OK", body),
        _ => ("404 Not Found", Vec::new()),
    };
    let kind = match found.as_ref().and_then(|path| path.extension()?.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}
