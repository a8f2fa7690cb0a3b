//! The binary: arguments, configuration, role.

// By measurement, docs/decisions/0008: what requests and chunks leave behind goes back to the system within a second.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    terrace::main()
}
