//! What has to be in place before the crate compiles: the dictionary, libtorch's address, and the book's snippets.

mod pages;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rustc-env=TARGET={}", env::var("TARGET")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    copy_dictionary(&root, &out)?;
    link_libtorch()?;
    test_snippets(&root, &out)
}

/// Copies the pronouncing dictionary out of the package that cargo has fetched with it.
fn copy_dictionary(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--offline", "--locked"].map(String::from))
        .exec()?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "cmudict-fast")
        .ok_or("the package cmudict-fast, which carries the dictionary, is not among the dependencies")?;
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
    if libraries.join("libtorch_cuda.so").exists() {
        // Nothing refers to this library by name, so the linker would drop it and CUDA would be reported missing.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
    Ok(())
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
    Ok(())
}
