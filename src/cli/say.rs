//! Data for stdout and remarks for stderr, where whoever reads them may stop reading.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// Prints to stdout as `print!` does. That nobody reads it any more (`pgmeridian diff … | head`) is no
/// fault: the rest is dropped, and the command ends with its own exit code. Anything else is, and ends it.
pub(super) fn to_stdout(words: Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    let Err(error) = stdout.write_fmt(words).and_then(|()| stdout.flush()) else { return };
    if error.kind() != ErrorKind::BrokenPipe {
        to_stderr(format_args!("error: writing to stdout: {error}"));
        std::process::exit(super::INTERNAL.into());
    }
}

/// Prints a line to stderr, if anybody reads it.
pub(super) fn to_stderr(words: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}

/// `print!` with a line's end, by [`to_stdout`].
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say::to_stdout(format_args!("{}\n", format_args!($($words)*)))
    };
}

/// `eprintln!`, by [`to_stderr`].
macro_rules! remark {
    ($($words:tt)*) => {
        $crate::cli::say::to_stderr(format_args!($($words)*))
    };
}
pub(super) use {remark, say};
