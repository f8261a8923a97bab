//! Finding a Chrome, Chromium or Edge. `tests/browser.rs` includes this file, so that both find the same one.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

/// What they are called, the likeliest to be meant first.
const NAMES: [&str; 7] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
];

/// Where they are on systems that do not put them on the PATH.
const PLACES: [&str; 7] = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files\Microsoft\Edge\Application\msedge.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
];

/// The browser that the variable CHROME names, or one on the PATH, or one in a usual place.
pub fn find() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(named) = variable("CHROME") {
        return Some(named.into());
    }
    let usual = || PLACES.iter().map(PathBuf::from).find(|path| path.is_file());
    variable("PATH").and_then(|path| on_path(&path)).or_else(usual)
}

/// The first browser in the folders of a PATH.
pub fn on_path(path: &OsStr) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(path).collect();
    NAMES.iter().find_map(|name| {
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file())
    })
}
