//! The broker with crash points, for the tests of this package only.

fn main() -> std::process::ExitCode {
    terrace::main()
}
