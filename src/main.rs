//! The binary: arguments, configuration, role.

fn main() -> std::process::ExitCode {
    terrace::main()
}
