//! Everything that can go wrong, each with its cure.

use std::path::PathBuf;

use crate::libtorch::VERSION;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no Python 3 was found (tried {tried}); pip, which brings libtorch, needs it\n  \
         Debian, Ubuntu:  apt install python3 python3-pip\n  \
         Fedora:          dnf install python3 python3-pip\n  \
         macOS:           xcode-select --install\n  \
         With a libtorch {VERSION} of your own, set LIBTORCH to its folder and no Python is needed."
    )]
    NoPython { tried: String },

    #[error(
        "{python} has no pip, which brings libtorch\n  \
         Debian, Ubuntu:  apt install python3-pip\n  \
         Fedora:          dnf install python3-pip\n  \
         elsewhere:       {python} -m ensurepip --user"
    )]
    NoPip { python: String },

    #[error(
        "no C++ compiler was found (tried {tried}); tch needs one to build its bindings to libtorch\n  \
         Debian, Ubuntu:  apt install g++\n  \
         Fedora:          dnf install gcc-c++\n  \
         macOS:           xcode-select --install\n  \
         A compiler elsewhere is found through the variable CXX."
    )]
    NoCompiler { tried: String },

    #[error(
        "no network: {what} could not be fetched\n  \
         Check the connection (behind a proxy: HTTPS_PROXY), then run the same command again. Nothing half-made is left behind.\n  \
         Without a network: set LIBTORCH to the folder of a libtorch {VERSION}, and have an mdbook 0.5 on the PATH."
    )]
    NoNetwork { what: String },

    #[error(
        "pip finds no package for {what} on this machine: {said}\n  \
         An old pip does not know the newer package tags: {python} -m pip install --upgrade pip\n  \
         A mirror or an index of your own (pip config list) must hold these packages, too."
    )]
    NoPackage { what: String, python: String, said: String },

    #[error(
        "pip could not fetch {what}: {said}\n  What pip printed above says more; then run the same command again."
    )]
    Pip { what: String, said: String },

    #[error(
        "too little disk space for {what}: {path} has {} free, and {} are needed\n  {cure}",
        megabytes(*available),
        megabytes(*needed)
    )]
    LittleSpace {
        what: String,
        path: PathBuf,
        needed: u64,
        available: u64,
        cure: &'static str,
    },

    #[error(
        "{origin} names {path}, which is no libtorch: {missing} is missing\n  \
         It must be the folder that holds lib/ and include/. Without {origin}, `cargo xtask setup` fetches a libtorch itself."
    )]
    NoLibtorch { origin: &'static str, path: PathBuf, missing: String },

    #[error(
        "{origin} names {path}, which is libtorch {found}; tch needs {VERSION} exactly\n  \
         Unset {origin} and `cargo xtask setup` fetches {VERSION}, or name a libtorch {VERSION}."
    )]
    WrongVersion { origin: &'static str, path: PathBuf, found: String },

    #[error(
        "LIBTORCH_USE_PYTORCH is set, but {python} has no torch\n  \
         {python} -m pip install torch=={VERSION}, or unset LIBTORCH_USE_PYTORCH and `cargo xtask setup` fetches a libtorch."
    )]
    NoTorchInPython { python: String },

    #[error(
        "{origin} is set, and so is --{flag}\n  Unset {origin} to have set-up fetch a libtorch, or leave --{flag} out."
    )]
    FlagAgainstVariable { origin: &'static str, flag: &'static str },

    #[error(
        "set-up knows no libtorch for {system}\n  \
         Get a libtorch {VERSION} for it, set LIBTORCH to the folder that holds its lib/ and include/, and run this again.\n  \
         On Windows, the Linux of WSL works as any other."
    )]
    UnknownSystem { system: String },

    #[error(
        "there is no libtorch with CUDA for {system}, only for x86_64 Linux\n  Leave --cuda out."
    )]
    NoCuda { system: String },

    #[error(
        "{path} is in the way: set-up makes a link there\n  Move it elsewhere; to use it as libtorch, set LIBTORCH to where it then is."
    )]
    InTheWay { path: PathBuf },

    #[error(
        "mdbook could not be built\n  What cargo printed above says why. Or install an mdbook 0.5 yourself; set-up takes the one on the PATH."
    )]
    Mdbook,

    #[error("port {port} is in use\n  cargo xtask read --port {free}")]
    PortInUse { port: u16, free: u16 },

    #[error("the book has {} fault{}:\n  {}", faults.len(), if faults.len() == 1 { "" } else { "s" }, faults.join("\n  "))]
    Book { faults: Vec<String> },

    #[error(
        "{chapter}, line {line} of the page with its includes: the formula `{formula}` cannot be read\n{reason}"
    )]
    Formula { chapter: String, line: usize, formula: String, reason: String },

    #[error(
        "{chapter}, line {line} of the page with its includes: this `$` neither opens nor closes a formula: `{text}`\n  \
         No blank may follow an opening `$` or precede a closing one. For a dollar, write `\\$`."
    )]
    LoneDollar { chapter: String, line: usize, text: String },

    #[error(
        "the preprocessor `maths` did not understand mdBook: {0}\n  It is made for mdBook 0.5; `mdbook --version` tells yours."
    )]
    Preprocessor(String),

    #[error(
        "{path} is no whole package: {source}\n  Run the same command again; what was fetched is thrown away."
    )]
    Package { path: PathBuf, source: zip::result::ZipError },

    #[error(
        "{} has {}; the comparison needs {VERSION}\n  \
         {} -m pip install torch=={VERSION} numpy safetensors, or leave --python out and the packages are fetched.",
        python.display(),
        found.as_ref().map_or("no PyTorch, NumPy or safetensors".to_string(), |found| format!("PyTorch {found}")),
        python.display()
    )]
    UnfitPython { python: PathBuf, found: Option<String> },

    #[error("no work is called `{asked}`; there are\n  {}", names.join("\n  "))]
    NoSuchWork { asked: String, names: Vec<String> },

    #[error("{side}: {problem}{said}")]
    Side { side: String, problem: String, said: String },

    #[error("{program} could not be built; what cargo printed above says why")]
    Build { program: String },

    #[error("{} {problem}", path.display())]
    Unusable { path: PathBuf, problem: String },

    #[error("{program} could not be started: {source}")]
    Start { program: String, source: std::io::Error },

    #[error("{doing} {path}: {source}")]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
}

/// For `map_err`: what was being done to which file.
pub fn file(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { doing, path, source }
}

/// A size as people read it: `527 MB`, `4.9 GB`.
pub fn megabytes(bytes: u64) -> String {
    match bytes / 1_000_000 {
        mega @ 0..1000 => format!("{mega} MB"),
        mega => format!("{:.1} GB", mega as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_appendix_shows_messages_as_they_are_printed() {
        let page =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../book/appendix_troubleshooting.md");
        let page = std::fs::read_to_string(page).unwrap();
        for error in [
            Error::NoPython { tried: "python3 and python".into() },
            Error::NoPip { python: "python3".into() },
            Error::NoCompiler { tried: "c++".into() },
            Error::NoNetwork { what: format!("libtorch {VERSION}") },
            Error::WrongVersion {
                origin: "LIBTORCH",
                path: "/opt/libtorch".into(),
                found: "2.12.0".into(),
            },
            Error::NoTorchInPython { python: "python3".into() },
            Error::PortInUse { port: 3000, free: 3001 },
        ] {
            assert!(
                page.contains(&format!("error: {error}\n")),
                "not on the page:\nerror: {error}"
            );
        }
    }
}
