//! The `pgmeridian` command.

fn main() -> std::process::ExitCode {
    pgmeridian::cli::main()
}
