//! The `plimsoll` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use plimsoll::cli::{Cli, Command, analyze, bench, diagnose, drill, plan, quantize, serve, tune};
use plimsoll_memory::{CountingAllocator, alloc, process};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if matches!(
        command,
        Command::Plan(_) | Command::Bench(_) | Command::Tune(_) | Command::Quantize(_)
    ) {
        process::end_with_broken_pipes();
    }
    if matches!(command, Command::Serve(_)) {
        alloc::without_thread_caches();
    }
    let result = match command {
        Command::Serve(args) => serve::run(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Analyze(args) => analyze::run(&args).map_err(|e| e.to_string()),
        Command::Tune(args) => tune::run(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Quantize(args) => quantize::run(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Bench(args) => bench::run(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Plan(args) => plan::run(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Diagnose(args) => diagnose::run(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Drill(args) => drill::run(&args).map_err(|e| e.to_string()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("plimsoll: {error}");
        ExitCode::FAILURE
    })
}
