//! How fast a pass is, on one thread and every instruction set this CPU has. Counts the thread's time on a CPU
//! (`/proc/thread-self/schedstat`), so that other programs on the machine hardly disturb it.
//!
//! `cargo run --release -p plimsoll-encoder --example forward_speed -- MODEL_DIRECTORY [f32|bf16|int8] [INSTRUCTION SET] [32x128]`

use std::error::Error;
use std::time::Duration;

use plimsoll_encoder::{Batch, Format, Model};
use plimsoll_kernel::{Isa, Kernel};
use plimsoll_memory::Scratch;

/// Passes are repeated for about this long; the median is reported.
const TIME: Duration = Duration::from_millis(1500);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: forward_speed MODEL_DIRECTORY [FORMAT] [INSTRUCTION SET] [SEQUENCESxTOKENS]")?;
    let format = arguments.next();
    let format = [Format::F32, Format::Bf16, Format::Int8]
        .into_iter()
        .find(|known| Some(known.name()) == format.as_deref());
    let only = arguments.next();
    let cell = arguments.next().and_then(|cell| {
        let (sequences, tokens) = cell.split_once('x')?;
        Some((sequences.parse().ok()?, tokens.parse().ok()?))
    });
    let cells = cell.map_or(vec![(1, 16), (1, 128), (32, 16), (32, 128), (4, 512)], |cell| {
        vec![cell]
    });
    let mut model = Model::load_dir_as(directory.as_ref(), format)?;
    let wanted = |isa: &Isa| only.as_deref().is_none_or(|name| name == isa.name());
    for kernel in Isa::ALL.into_iter().filter(wanted).filter_map(Kernel::with) {
        model = model.with_kernel(kernel);
        for &(sequences, tokens) in &cells {
            let median = measure(&model, sequences, tokens)?;
            let rate = (sequences * tokens) as f64 / median.as_secs_f64();
            let (isa, ms) = (kernel.isa().name(), median.as_secs_f64() * 1e3);
            println!(
                "{} {isa:11} {sequences:3} x {tokens:3} tokens: {ms:9.2} ms, {rate:8.0} tokens/s",
                model.info().format
            );
        }
    }
    Ok(())
}

fn measure(model: &Model, sequences: usize, tokens: usize) -> Result<Duration, Box<dyn Error>> {
    let vocabulary = model.info().vocab_size as u32;
    let ids: Vec<u32> = (0..(sequences * tokens) as u32)
        .map(|i| i.wrapping_mul(2_654_435_761) % vocabulary)
        .collect();
    let lens = vec![tokens as u32; sequences];
    let batch = Batch {
        ids: &ids,
        types: &[],
        lens: &lens,
    };
    let mut scratch = Scratch::new(model.forward_scratch(batch.shape()).bytes())?;
    let mut times = Vec::new();
    let mut total = Duration::ZERO;
    while times.len() < 3 || total < TIME {
        let start = on_cpu()?;
        let frame = scratch.frame();
        std::hint::black_box(model.forward(&batch, &frame)?.token(0));
        times.push(on_cpu()? - start);
        total += times[times.len() - 1];
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Time that this thread has spent on a CPU.
fn on_cpu() -> Result<Duration, Box<dyn Error>> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = line.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}
