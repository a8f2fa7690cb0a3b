//! The broker with crash points, for the tests of this package only.

// As in the released binary, so that what tests measure of its memory is true.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    terrace::main()
}
