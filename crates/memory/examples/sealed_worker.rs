//! A worker that allocates while it starts and is then sealed. Shows what a metric and a test would read.
//!
//! `cargo run -p plimsoll-memory --example sealed_worker`
#![forbid(unsafe_code)]

use plimsoll_memory::{CountingAllocator, PipelineScope, Scratch, ScratchReq, alloc};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let need = ScratchReq::of::<f32>(1024).times(2);
    let mut scratch = Scratch::new(need.bytes())?; // start: may allocate
    println!(
        "start: {} allocations on this thread",
        alloc::thread_counts().allocations
    );

    alloc::seal();
    let mut sum = 0.0;
    for pass in 0..1000 {
        let _scope = PipelineScope::enter();
        let frame = scratch.frame();
        let (hidden, next) = (frame.take::<f32>(1024)?, frame.take::<f32>(1024)?);
        hidden.fill(pass as f32);
        next.copy_from_slice(hidden);
        sum += next[1023];
    }
    alloc::unseal();

    println!(
        "1000 passes (sum {sum}): {} allocations in the pipeline",
        alloc::pipeline_allocations()
    );
    println!("violations by this thread: {}", alloc::thread_violations());
    Ok(())
}
