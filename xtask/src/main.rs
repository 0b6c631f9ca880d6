//! Developer commands: `./x <command>`, or `cargo xtask <command>`.

mod bench;
mod build_ebpf;
mod check;
mod command;
mod debug_info;
mod docs;
mod fuzz;
mod kafka;
mod kernel_test;
mod object_check;
mod package;
mod probe_binary;
mod prometheus;
mod run;
mod rustc_wrapper;
mod setup;
mod soak;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Developer commands of DataFlux Probe.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    BuildEbpf(build_ebpf::Args),
    Run(run::Args),
    Test(test::Args),
    KernelTest(kernel_test::Args),
    Check(check::Args),
    Docs(docs::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Kafka(kafka::Args),
    Package(package::Args),
    Soak(soak::Args),
    #[command(hide = true)]
    BenchLoad(bench::load::Args),
}

fn main() -> ExitCode {
    let result = if rustc_wrapper::is_called() {
        rustc_wrapper::become_rustc()
    } else {
        match Xtask::parse() {
            Xtask::BuildEbpf(args) => build_ebpf::main(&args),
            Xtask::Run(args) => run::main(&args),
            Xtask::Test(args) => test::main(&args),
            Xtask::KernelTest(args) => kernel_test::main(&args),
            Xtask::Check(args) => check::main(&args),
            Xtask::Docs(args) => docs::main(&args),
            Xtask::Bench(args) => bench::main(&args),
            Xtask::Fuzz(args) => fuzz::main(&args),
            Xtask::Kafka(args) => kafka::main(&args),
            Xtask::Package(args) => package::main(&args),
            Xtask::Soak(args) => soak::main(&args),
            Xtask::BenchLoad(args) => bench::load::main(&args),
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
