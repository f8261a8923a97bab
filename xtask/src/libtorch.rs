//! Which libtorch is in use, and whether it is a sound one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, file};
use crate::fetch;
use crate::places::{Places, variable};
use crate::process;
use crate::tools::{self, Card};

/// The version that tch is made for, to the last digit.
pub const VERSION: &str = "2.13.0";

/// With the libraries for NVIDIA cards or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Cpu,
    Cuda,
}

impl Flavour {
    /// As in the names of flags and folders.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Cpu => "cpu",
            Flavour::Cuda => "cuda",
        }
    }
}

/// Finds or fetches a libtorch and returns its folder.
///
/// What the user names comes first, then what they ask for by flag, then what was set up before, then what suits
/// the machine.
pub fn obtain(places: &Places, asked: Option<Flavour>) -> Result<PathBuf> {
    if let Some((origin, path)) = named_by_user(places)? {
        if let Some(flavour) = asked {
            return Err(Error::FlagAgainstVariable { origin, flag: flavour.name() });
        }
        return match check(&path) {
            Ok(()) => path.canonicalize().map_err(file("following", path)),
            Err(Unfit::Lacks(missing)) => {
                Err(Error::NoLibtorch { origin, path, missing })
            }
            Err(Unfit::Version(found)) => {
                Err(Error::WrongVersion { origin, path, found })
            }
        };
    }
    if let (None, Ok(linked)) = (asked, places.link().canonicalize())
        && check(&linked).is_ok()
    {
        return Ok(linked);
    }
    fetch::from_cache_or_network(places, asked.unwrap_or_else(flavour_for_this_machine))
}

/// The libtorch that the environment names, with the name of the variable.
fn named_by_user(places: &Places) -> Result<Option<(&'static str, PathBuf)>> {
    if variable("LIBTORCH_USE_PYTORCH").is_some() {
        return Ok(Some(("LIBTORCH_USE_PYTORCH", python_package()?)));
    }
    // Without a LIBTORCH of the user's, cargo has set it to our own link.
    let libtorch =
        variable("LIBTORCH").map(PathBuf::from).filter(|path| !places.is_link(path));
    Ok(libtorch.map(|path| ("LIBTORCH", places.root.join(path))))
}

/// The folder of Python's package `torch`. Importing torch itself would take seconds.
fn python_package() -> Result<PathBuf> {
    const WHERE: &str = "import importlib.util as u, os; print(os.path.dirname(u.find_spec('torch').origin))";
    let python = tools::python()?;
    match process::answer(Command::new(&python).args(["-c", WHERE])) {
        Some(folder) => Ok(folder.into()),
        None => Err(Error::NoTorchInPython { python }),
    }
}

fn flavour_for_this_machine() -> Flavour {
    match tools::card() {
        Card::Usable if cfg!(all(target_os = "linux", target_arch = "x86_64")) => {
            Flavour::Cuda
        }
        Card::OldDriver(version) => {
            println!(
                "An NVIDIA card is here, but CUDA 13 needs driver 580 or newer, and this is {version}: taking the CPU."
            );
            Flavour::Cpu
        }
        _ => Flavour::Cpu,
    }
}

/// Why a folder is not the libtorch that is needed.
#[derive(Debug, PartialEq)]
pub enum Unfit {
    Lacks(String),
    Version(String),
}

/// Checks that a folder holds a whole libtorch of the right version.
pub fn check(libtorch: &Path) -> std::result::Result<(), Unfit> {
    const SUFFIX: &str = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    let parts = ["lib", "include"].map(String::from).into_iter().chain(
        ["torch", "torch_cpu", "c10"].map(|library| format!("lib/lib{library}.{SUFFIX}")),
    );
    for part in parts {
        if !libtorch.join(&part).exists() {
            return Err(Unfit::Lacks(part));
        }
    }
    match version(libtorch) {
        Some(version) if version == VERSION => Ok(()),
        Some(version) => Err(Unfit::Version(version)),
        None => Err(Unfit::Version("of an unknown version".to_string())),
    }
}

/// The version as the headers, the distribution or the Python package tell it.
fn version(libtorch: &Path) -> Option<String> {
    let read = |path: &str| fs::read_to_string(libtorch.join(path)).ok();
    let headers = [
        "include/torch/headeronly/version.h",
        "include/torch/csrc/api/include/torch/version.h",
    ];
    let from_headers =
        headers.iter().find_map(|header| version_in_header(&read(header)?));
    let from_distribution = || Some(without_build(&read("build-version")?));
    let from_python = || {
        let version = read("version.py")?;
        let quoted =
            version.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        Some(without_build(quoted.trim_matches(['\'', '"'])))
    };
    from_headers.or_else(from_distribution).or_else(from_python)
}

/// `2.13.0` out of `#define TORCH_VERSION_MAJOR 2` and its like.
fn version_in_header(header: &str) -> Option<String> {
    let number = |part: &str| {
        let definition = format!("#define TORCH_VERSION_{part} ");
        header
            .lines()
            .find_map(|line| line.strip_prefix(&definition)?.trim().parse::<u32>().ok())
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

/// `2.13.0` out of `2.13.0+cu130`.
fn without_build(version: &str) -> String {
    version.trim().split('+').next().unwrap_or_default().to_string()
}

/// Whether a libtorch has the libraries for NVIDIA cards.
pub fn has_cuda(libtorch: &Path) -> bool {
    libtorch.join("lib/libtorch_cuda.so").exists()
}

/// Points the link at a libtorch. Returns whether it pointed elsewhere before.
pub fn link(places: &Places, libtorch: &Path) -> Result<bool> {
    let link = places.link();
    if fs::read_link(&link).is_ok_and(|target| target == libtorch) {
        return Ok(false);
    }
    if link.exists() && !link.is_symlink() {
        return Err(Error::InTheWay { path: link });
    }
    // A link cannot be changed, but another can take its place, with no moment in between.
    let fresh = places.root.join(".libtorch.new");
    let _ = fs::remove_file(&fresh); // from a set-up that was killed right here
    symlink(libtorch, &fresh).map_err(file("linking", &fresh))?;
    fs::rename(&fresh, &link).map_err(file("linking", &link))?;
    Ok(true)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_dir(target, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_headers_distribution_or_package() {
        let libtorch = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = libtorch.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(version(libtorch.path()), None);
        write(
            "version.py",
            "from typing import Optional\n__version__ = '2.11.0+cu130'\n",
        );
        assert_eq!(version(libtorch.path()).unwrap(), "2.11.0");
        write("build-version", "2.12.0+cpu\n");
        assert_eq!(version(libtorch.path()).unwrap(), "2.12.0");
        let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n";
        write("include/torch/headeronly/version.h", header);
        assert_eq!(version(libtorch.path()).unwrap(), "2.13.0");
    }
}
