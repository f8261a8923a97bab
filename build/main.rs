//! What has to be in place before the crate compiles: the dictionary, libtorch's address, and the book's snippets.

mod pages;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use cargo_metadata::{MetadataCommand, Package};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rustc-env=TARGET={}", env::var("TARGET")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let packages = packages(&root)?;
    copy_dictionary(&packages, &out)?;
    println!("cargo:rustc-env=TCH_VERSION={}", package(&packages, "tch")?.version);
    link_libtorch()?;
    test_snippets(&root, &out)
}

/// The packages that this one is made of.
///
/// To name them, cargo wants every one at hand, also those that are for tests only. If one is missing, it may fetch it.
fn packages(root: &Path) -> Result<Vec<Package>, Box<dyn Error>> {
    let metadata = |options: &[&str]| {
        MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(options.iter().copied().map(String::from).collect::<Vec<_>>())
            .exec()
    };
    let target = env::var("TARGET")?;
    let here = ["--locked", "--filter-platform", &target];
    let metadata =
        metadata(&[&here[..], &["--offline"]].concat()).or_else(|_| metadata(&here))?;
    Ok(metadata.packages)
}

/// The package of that name.
fn package<'a>(
    packages: &'a [Package],
    name: &str,
) -> Result<&'a Package, Box<dyn Error>> {
    let found = packages.iter().find(|package| package.name.as_str() == name);
    Ok(found
        .ok_or_else(|| format!("the package {name} is not among the dependencies"))?)
}

/// Copies the pronouncing dictionary out of the package that carries it.
fn copy_dictionary(packages: &[Package], out: &Path) -> Result<(), Box<dyn Error>> {
    let package = package(packages, "cmudict-fast")?;
    let dictionary =
        package.manifest_path.with_file_name("resources").join("cmudict.dict");
    fs::copy(&dictionary, out.join("cmudict.dict")).map_err(|error| {
        format!("the dictionary cannot be copied from {dictionary}: {error}")
    })?;
    Ok(())
}

/// Writes the folder of libtorch's libraries into every program, so that each can be started on its own, and links
/// the CUDA library where there is one.
fn link_libtorch() -> Result<(), Box<dyn Error>> {
    let libraries = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB")?); // torch-sys says which it builds against
    let libraries = libraries.canonicalize().map_err(|error| {
        format!(
            "libtorch is not at {}: {error}; run `cargo xtask setup`",
            libraries.display()
        )
    })?;
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    println!("cargo:rustc-env=LIBTORCH_VERSION={}", libtorch_version(&libraries)?);
    if libraries.join("libtorch_cuda.so").exists() {
        // Nothing refers to this library by name, so the linker would drop it and CUDA would be reported missing.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
    Ok(())
}

/// The version of the libtorch that is linked, as its own header says it.
fn libtorch_version(libraries: &Path) -> Result<String, Box<dyn Error>> {
    let header = libraries.with_file_name("include/torch/headeronly/version.h");
    let text = fs::read_to_string(&header).map_err(|error| {
        format!("{}: {error}; run `cargo xtask setup`", header.display())
    })?;
    let number = |part: &str| {
        let name = format!("#define TORCH_VERSION_{part} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or("?", str::trim)
    };
    Ok(["MAJOR", "MINOR", "PATCH"].map(number).join("."))
}

/// Hands every snippet of the book to skeptic, which makes a test of it.
fn test_snippets(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    for source in ["book.toml", "book", "src", "figures", "tests/fixtures"] {
        println!("cargo:rerun-if-changed={source}");
    }
    let mut expanded = Vec::new();
    for page in pages::expand(root)? {
        let path = out.join(format!("{}.md", page.name));
        let unchanged = fs::read_to_string(&path).is_ok_and(|text| text == page.text);
        if !unchanged {
            fs::write(&path, page.text)?; // only then, for cargo looks at the time of the file
        }
        expanded.push(path);
    }
    skeptic::generate_doc_tests(&expanded);
    // The tests run each snippet by a function of ours, which skeptic cannot be told.
    let tests = out.join("skeptic-tests.rs");
    let text =
        fs::read_to_string(&tests)?.replace("skeptic::rt::run_test(", "run_snippet(");
    Ok(fs::write(&tests, text)?)
}
