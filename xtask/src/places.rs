//! The folders that set-up reads and writes.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, file};

pub struct Places {
    /// The repository.
    pub root: PathBuf,
    /// What all clones of one user share.
    pub cache: PathBuf,
}

impl Places {
    /// The repository is where cargo started this program from, the cache what the environment says.
    pub fn find() -> Result<Places> {
        let manifest = variable("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).join("..");
        let root =
            root.canonicalize().map_err(file("looking for the repository at", root))?;
        let cache = cache();
        fs::create_dir_all(&cache).map_err(file("making the cache", &cache))?;
        Ok(Places { root, cache })
    }

    /// The link to the libtorch in use: `.cargo/config.toml` names it to cargo.
    pub fn link(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    pub fn target(&self) -> PathBuf {
        variable("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |target| self.root.join(target))
    }

    /// Whether tch's bindings were ever built here.
    pub fn has_built_tch(&self) -> bool {
        ["debug", "release"].iter().any(|profile| {
            let built = fs::read_dir(self.target().join(profile).join("build"));
            built
                .into_iter()
                .flatten()
                .flatten()
                .any(|e| e.file_name().to_string_lossy().starts_with("torch-sys-"))
        })
    }

    /// cargo in the repository, in the environment that the user's own cargo commands have.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        // cargo set this from its configuration, and will again; as a variable of the user's it would count as a change.
        if variable("LIBTORCH").is_some_and(|libtorch| self.is_link(Path::new(&libtorch)))
        {
            cargo.env_remove("LIBTORCH");
        }
        cargo
    }

    /// Whether a path is the link in this repository, however written.
    pub fn is_link(&self, path: &Path) -> bool {
        path.file_name() == self.link().file_name()
            && path.parent().is_some_and(|parent| {
                parent.canonicalize().is_ok_and(|parent| parent == self.root)
            })
    }
}

/// An environment variable, where it is set to something.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn cache() -> PathBuf {
    if let Some(cache) = variable("SELF_ATTENTION_CACHE") {
        return cache.into();
    }
    let home = env::home_dir().unwrap_or_default();
    let caches = match variable("XDG_CACHE_HOME") {
        Some(caches) => caches.into(),
        None if cfg!(target_os = "macos") => home.join("Library/Caches"),
        None => home.join(".cache"),
    };
    caches.join("self-attention")
}
