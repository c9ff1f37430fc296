//! What shells and `man` know of the command line: made from the same definition that parses it.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::problem::Problem;
use super::{Cli, Exit, out};

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell that the script is for.
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// Folder to write the pages to, one a command. Without it the page of outboxd itself is printed.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "outboxd", &mut script);
    out::bytes(&script);
    Ok(())
}

/// Prints the manual page, or writes those of all commands.
pub(super) fn man(args: &ManArgs) -> Result<(), Exit> {
    match &args.dir {
        Some(folder) => write_pages(folder).map_err(|e| {
            let remedy = "Name a folder that exists and can be written.";
            let what = format!(
                "the pages could not be written to {}: {e}",
                folder.display()
            );
            Problem::new(what, remedy).report();
            Exit::Failure
        }),
        None => {
            let mut page = Vec::new();
            out::check(clap_mangen::Man::new(Cli::command()).render(&mut page));
            out::bytes(&page);
            Ok(())
        }
    }
}

fn write_pages(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
}
