//! The `outboxd` binary.

fn main() -> outboxd::cli::Exit {
    outboxd::cli::main()
}
