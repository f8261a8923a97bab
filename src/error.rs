//! The one error type of the crate.
//!
//! Every message names what was wrong, where, and what to do about it, so that a caller can print it as it is.

use std::fmt;
use std::path::{Path, PathBuf};

use tch::TchError;
use thiserror::Error;

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in this crate.
#[derive(Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not have the shape an operation needs.
    #[error("{what}: expected {expected}, found {found:?}")]
    Shape {
        /// The tensor and the operation, as in `attention: key`.
        what: &'static str,
        /// The shape that was needed, in the shape letters of chapter 1.
        expected: String,
        /// The shape that came.
        found: Vec<i64>,
    },

    /// A setting cannot be used.
    #[error("{setting} = {value}: {reason}")]
    Config {
        /// The name of the setting.
        setting: &'static str,
        /// The value it had.
        value: String,
        /// Why that cannot be, and what can.
        reason: String,
    },

    /// A value handed to a function cannot be used.
    #[error("{what}: {problem}")]
    Input {
        /// What was handed over.
        what: &'static str,
        /// What is wrong with it, and what to do.
        problem: String,
    },

    /// A word holds a character that the vocabulary lacks.
    #[error(
        "`{word}`: character {symbol:?} at position {position} is not a letter a–z or an apostrophe; \
         write numbers and symbols out as words"
    )]
    UnknownSymbol {
        /// The word.
        word: String,
        /// The first character that is not known.
        symbol: char,
        /// Where it stands, counted in characters from 1.
        position: usize,
    },

    /// There is nothing to pronounce.
    #[error(
        "`{word}`: an empty word has no pronunciation; give at least one letter a–z"
    )]
    EmptyWord {
        /// The word as it came: empty, or white space only.
        word: String,
    },

    /// A word is longer than the model can take.
    #[error("`{word}`: {length} letters, and the model takes at most {limit}; give a shorter word")]
    LongWord {
        /// The word.
        word: String,
        /// How many letters it has.
        length: usize,
        /// How many letters there may be.
        limit: usize,
    },

    /// A line of the pronouncing dictionary cannot be read.
    #[error("dictionary, line {line}: {problem}")]
    DictionaryLine {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },

    /// The device that was asked for is not there.
    #[error("device `{device}` is not available: {reason}; `--device cpu` always is")]
    Device {
        /// The device as it was asked for.
        device: String,
        /// Why not, and what to do.
        reason: String,
    },

    /// A model, checkpoint, log or figure file does not hold what it should.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },

    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A figure could not be drawn.
    #[error("figure `{title}`: {reason}")]
    Figure {
        /// The figure's title.
        title: String,
        /// What the drawing library said, or what is wrong with the data.
        reason: String,
    },

    /// A worker thread ended before its work was done.
    #[error("the {worker} thread ended early: {reason}")]
    Worker {
        /// Which thread.
        worker: &'static str,
        /// Why, as far as is known.
        reason: String,
    },

    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// The message, for that is what Rust prints of an error that `main` returns.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// An [`Error::Io`] about `path`, for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// An [`Error::File`] about `path`.
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    /// An [`Error::Input`] about `what`.
    pub fn input(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Input { what, problem: problem.into() }
    }

    /// An [`Error::Config`].
    pub fn config(
        setting: &'static str,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> Self {
        Self::Config { setting, value: value.to_string(), reason: reason.into() }
    }
}
