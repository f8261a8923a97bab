//! `cargo xtask`: from a fresh clone to the open book, or to every test passed, in one command.

mod book;
mod browser;
mod compare;
mod error;
mod fetch;
mod libtorch;
mod maths;
mod places;
mod process;
mod read;
mod setup;
mod tools;

use std::io::Read;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use error::{Error, Result};
use libtorch::Flavour;
use places::Places;

/// Sets this book up, builds it, serves it and tests it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get what the book needs: libtorch and mdbook
    Setup(Choice),
    /// Set up, then serve the book and open it in the browser
    Read {
        #[command(flatten)]
        choice: Choice,
        /// The port the book is served on
        #[arg(long, default_value_t = 3000)]
        port: u16,
        /// Serve, but open no browser
        #[arg(long)]
        no_open: bool,
    },
    /// Set up, then run every test; further arguments go to `cargo test`
    Test {
        #[command(flatten)]
        choice: Choice,
        /// Arguments for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the book into target/book and check the pages
    Book,
    /// Measure this crate and PyTorch, burn and candle on the same work, side by side
    Compare(compare::Options),
    /// Draw every figure and record every output anew
    Figures,
    /// The mdBook preprocessor that turns LaTeX into MathML
    #[command(hide = true)]
    Maths {
        #[command(subcommand)]
        question: Option<Question>,
    },
}

/// Which libtorch to get.
#[derive(Args, Clone, Copy)]
struct Choice {
    /// Get the libtorch for NVIDIA cards, even where none is found
    #[arg(long, conflicts_with = "cpu")]
    cuda: bool,
    /// Get the small libtorch without CUDA, even where a card is found
    #[arg(long)]
    cpu: bool,
}

impl Choice {
    fn flavour(self) -> Option<Flavour> {
        match self {
            Choice { cuda: true, .. } => Some(Flavour::Cuda),
            Choice { cpu: true, .. } => Some(Flavour::Cpu),
            _ => None,
        }
    }
}

/// What mdBook asks a preprocessor before it sends the book.
#[derive(Subcommand)]
enum Question {
    Supports { renderer: String },
}

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Setup(choice) => {
            setup::run(&Places::find()?, choice.flavour())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Read { choice, port, no_open } => {
            read::refuse_a_busy_port(port)?;
            let places = Places::find()?;
            let tools = setup::run(&places, choice.flavour())?;
            read::serve(&places, &tools.mdbook, port, !no_open)
        }
        Command::Test { choice, arguments } => {
            let places = Places::find()?;
            setup::run(&places, choice.flavour())?;
            setup::browser();
            process::follow(places.cargo().args(["test", "--workspace"]).args(arguments))
        }
        Command::Book => {
            let places = Places::find()?;
            let tools = setup::run(&places, None)?;
            book::build(&places, &tools.mdbook)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare(options) => {
            let places = Places::find()?;
            if options.builds() {
                setup::run(&places, None)?;
            }
            compare::run(&places, &options)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Figures => {
            let places = Places::find()?;
            setup::run(&places, None)?;
            let mut bless = places.cargo();
            bless
                .args(["test", "--test", "outputs", "--test", "figures"])
                .env("UPDATE_EXPECT", "1");
            process::follow(&mut bless)
        }
        Command::Maths { question: Some(Question::Supports { renderer }) } => {
            Ok(if renderer == "html" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Maths { question: None } => {
            let mut request = String::new();
            std::io::stdin()
                .read_to_string(&mut request)
                .map_err(|e| Error::Preprocessor(e.to_string()))?;
            print!("{}", maths::preprocess(&request)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
