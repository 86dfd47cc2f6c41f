//! Fills the cache of vectors before the server says that it is ready.
//!
//! The texts of a file, one a line, take the road of requests, so that whatever bounds those bounds this: a long file is read in constant memory, its vectors go where the cache
//! has room, and what is served meanwhile is served as ever. Only `/health` waits.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::app::App;
use crate::http::road;
use crate::log::Severity;

/// Texts of one request.
const BATCH_TEXTS: usize = 32;
/// A text that is longer is left out: it would be cut anyway.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// What is to be read, and how long it may take.
#[derive(Debug)]
pub(crate) struct WarmUp {
    path: PathBuf,
    file: File,
    time_max: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Warmed {
    /// Texts whose vectors were computed or found.
    texts: usize,
    /// Lines that were left out: too long, empty, no UTF-8, or not let in.
    left_out: usize,
}

impl WarmUp {
    /// Opens the file.
    pub(crate) fn open(path: &Path, time_max: Duration) -> io::Result<WarmUp> {
        Ok(WarmUp {
            path: path.to_owned(),
            file: File::open(path)?,
            time_max,
        })
    }

    /// From now on the server is not ready, until the file was read to its end or the end of its time. Needs a Tokio runtime.
    pub(crate) fn start(self, app: &Arc<App>) {
        app.warming.store(true, Ordering::Relaxed);
        tokio::spawn(self.run(Arc::clone(app)));
    }

    /// Reads the file, and says what came of it. The server is ready then, whatever that was.
    async fn run(self, app: Arc<App>) {
        let began = Instant::now();
        let mut warmed = Warmed::default();
        let ended = timeout(self.time_max, read(&app, &self.file, &mut warmed)).await;
        app.warming.store(false, Ordering::Relaxed);
        let ended = match ended {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => format!(": {error}"),
            Err(_) => format!(": cut short after {} s", self.time_max.as_secs()),
        };
        let severity = if ended.is_empty() {
            Severity::Info
        } else {
            Severity::Warn
        };
        let Warmed { texts, left_out } = warmed;
        let (path, ms) = (self.path.display(), began.elapsed().as_millis());
        let message = format!("warm-up: {texts} texts of {path} in {ms} ms, {left_out} left out{ended}");
        app.observer.log.say(severity, message);
    }
}

/// Embeds the texts of a file.
async fn read(app: &Arc<App>, file: &File, warmed: &mut Warmed) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(2 * TEXT_BYTES_MAX, file);
    let batch_texts = BATCH_TEXTS.min(app.abilities.batch_max);
    let mut texts = Vec::with_capacity(batch_texts);
    loop {
        let next = next_text(&mut reader)?;
        let is_end = matches!(next, Next::End);
        match next {
            Next::Text(text) => texts.push(text),
            Next::Unfit => warmed.left_out += 1,
            Next::End => {}
        }
        if texts.len() == batch_texts || is_end && !texts.is_empty() {
            let count = if embed(app, &texts).await {
                &mut warmed.texts
            } else {
                &mut warmed.left_out
            };
            *count += texts.len();
            texts.clear();
        }
        if is_end {
            return Ok(());
        }
    }
}

/// Embeds them as one request; waits where there is no room now.
async fn embed(app: &Arc<App>, texts: &[String]) -> bool {
    let body = serde_json::json!({ "inputs": texts }).to_string();
    loop {
        match road::embed(app, body.as_bytes()).await {
            Ok(_answer) => return true,
            Err(problem) => match problem.retry_after() {
                Some(wait) => sleep(wait).await,
                None => return false,
            },
        }
    }
}

enum Next {
    Text(String),
    /// A line that is no text to embed.
    Unfit,
    End,
}

fn next_text(reader: &mut impl BufRead) -> io::Result<Next> {
    let mut line = Vec::new();
    let limit = TEXT_BYTES_MAX as u64 + 1;
    let read_bytes = io::Read::take(&mut *reader, limit).read_until(b'\n', &mut line)?;
    if read_bytes == 0 {
        return Ok(Next::End);
    }
    if line.last() != Some(&b'\n') && line.len() > TEXT_BYTES_MAX {
        reader.skip_until(b'\n')?;
        return Ok(Next::Unfit);
    }
    let text = String::from_utf8(line).map(|text| text.trim_end_matches(['\n', '\r']).to_owned());
    Ok(match text {
        Ok(text) if !text.is_empty() => Next::Text(text),
        _ => Next::Unfit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_texts_and_what_is_none_is_left_out() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let just = "y".repeat(TEXT_BYTES_MAX);
        let file = [
            b"one\r\n\n".as_slice(),
            long.as_bytes(),
            b"\n\xff\n",
            just.as_bytes(),
            b"\nlast",
        ]
        .concat();
        let mut reader = BufReader::with_capacity(100, &*file);
        let mut found = Vec::new();
        loop {
            match next_text(&mut reader).unwrap() {
                Next::Text(text) => found.push(text),
                Next::Unfit => found.push("unfit".to_owned()),
                Next::End => break,
            }
        }
        assert_eq!(found, ["one", "unfit", "unfit", "unfit", &just, "last"]);
    }
}
