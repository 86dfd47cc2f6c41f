//! The task that exports.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::Verdict;
use super::client::{CONNECTION_BYTES, Client, GRPC_HEAD_BYTES, Signal};
use super::queue::{Dropped, Spans};
use super::settings::OtlpSettings;
use super::{metrics, spans};
use crate::app::App;

/// A batch goes out when it is whole, or after so long; metrics go out as often.
const INTERVAL: Duration = Duration::from_secs(10);
/// An export has so long, the connection included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts; as many attempts as there are pauses, and one more.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// At the end what is left has so long.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes of a batch.
pub(super) const BATCH_BYTES_MAX: usize = 512 * 1024;
/// What exporting takes beside the queue: a batch, another one while a connection that was given up still holds it, and the connection.
pub const EXPORT_BYTES: usize = 2 * BATCH_BYTES_MAX + CONNECTION_BYTES;

/// The running task.
pub struct Exporter {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Starts it, if the server has spans to export. Needs a Tokio runtime.
    pub fn start(app: &Arc<App>, settings: OtlpSettings) -> Exporter {
        let (stop, stopped) = watch::channel(false);
        let export = Export {
            app: Arc::clone(app),
            settings,
            client: None,
            buffer: BytesMut::with_capacity(BATCH_BYTES_MAX),
        };
        Exporter {
            stop,
            task: tokio::spawn(export.run(stopped)),
        }
    }

    /// Exports what is left, within bounds.
    pub async fn finish(self) {
        self.stop.send_replace(true);
        // Out of time: what is left goes with the server.
        let _ = timeout(FAREWELL, self.task).await;
    }
}

struct Export {
    app: Arc<App>,
    settings: OtlpSettings,
    client: Option<Client>,
    buffer: BytesMut,
}

/// How an export ended.
enum Ended {
    Taken { rejected: u64 },
    Dropped(Dropped),
}

impl Export {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let app = Arc::clone(&self.app);
        let Some(queue) = &app.observer.spans else { return };
        let mut due = Instant::now() + INTERVAL;
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                () = self.turn(queue, &mut due) => {}
            }
        }
        // Whatever was under way has ended half-way.
        self.client = None;
        self.buffer = BytesMut::with_capacity(BATCH_BYTES_MAX);
        while self.export_batch(queue).await > 0 {}
        self.export_metrics(queue).await;
    }

    /// Waits for a batch, or for the end of the interval, and exports what there is.
    async fn turn(&mut self, queue: &Spans, due: &mut Instant) {
        if !queue.has_batch() {
            tokio::select! {
                () = queue.ready.notified() => {}
                () = sleep_until(*due) => {}
            }
        }
        let is_due = Instant::now() >= *due;
        if is_due || queue.has_batch() {
            self.export_batch(queue).await;
        }
        if is_due {
            *due = Instant::now() + INTERVAL;
            self.export_metrics(queue).await;
        }
    }

    /// Exports one batch; returns the number of spans that were in it.
    async fn export_batch(&mut self, queue: &Spans) -> u64 {
        self.begin();
        let count = spans::encode(queue, &self.settings.service_name, &mut self.buffer) as u64;
        if count == 0 {
            return 0;
        }
        // Should the server go down meanwhile, they are lost with it.
        let lost = Lost { queue, count };
        let ended = self.post(Signal::Traces).await;
        lost.found();
        match ended {
            Ended::Taken { rejected } => {
                let rejected = rejected.min(count);
                queue.exported.fetch_add(count - rejected, Relaxed);
                queue.drop_spans(Dropped::Refused, rejected);
            }
            Ended::Dropped(why) => queue.drop_spans(why, count),
        }
        count
    }

    async fn export_metrics(&mut self, queue: &Spans) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_unix_ns = now.map_or(0, |now| now.as_nanos() as u64);
        self.begin();
        metrics::encode(
            &self.app,
            &self.settings.service_name,
            now_unix_ns,
            &mut self.buffer,
        );
        let count = match self.post(Signal::Metrics).await {
            Ended::Taken { .. } => &queue.metrics_exported,
            Ended::Dropped(_) => &queue.metrics_failed,
        };
        count.fetch_add(1, Relaxed);
    }

    fn begin(&mut self) {
        self.buffer.clear();
        self.buffer.put_bytes(0, GRPC_HEAD_BYTES);
    }

    /// Posts what is in the buffer, more than once if it must be.
    async fn post(&mut self, signal: Signal) -> Ended {
        let length = (self.buffer.len() - GRPC_HEAD_BYTES) as u32;
        self.buffer[1..GRPC_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
        let message = std::mem::take(&mut self.buffer).freeze();
        let ended = self.attempts(signal, &message).await;
        // A connection that was given up may still hold the bytes; then they are its own, and go with it.
        self.buffer = message
            .try_into_mut()
            .unwrap_or_else(|_| BytesMut::with_capacity(BATCH_BYTES_MAX));
        ended
    }

    async fn attempts(&mut self, signal: Signal, message: &Bytes) -> Ended {
        let mut pauses = PAUSES.iter();
        loop {
            let (why, wait) = match timeout(EXPORT_TIMEOUT, self.attempt(signal, message)).await {
                Ok(Ok(Verdict::Taken { rejected })) => return Ended::Taken { rejected },
                Ok(Ok(Verdict::Refused)) => return Ended::Dropped(Dropped::Refused),
                Ok(Ok(Verdict::Later(wait))) => (Dropped::Refused, wait),
                Ok(Err(_)) => (Dropped::Unreachable, None),
                Err(_) => (Dropped::Timeout, None),
            };
            if why != Dropped::Refused {
                self.client = None;
            }
            match pauses.next() {
                Some(pause) => sleep(wait.unwrap_or(*pause)).await,
                None => return Ended::Dropped(why),
            }
        }
    }

    async fn attempt(
        &mut self,
        signal: Signal,
        message: &Bytes,
    ) -> Result<Verdict, Box<dyn std::error::Error + Send + Sync>> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(&self.settings).await?),
        };
        client.post(&self.settings, signal, message.clone()).await
    }
}

/// Spans that are under way: lost if this is dropped, as when the server goes down.
struct Lost<'a> {
    queue: &'a Spans,
    count: u64,
}

impl Lost<'_> {
    fn found(mut self) {
        self.count = 0;
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.queue.drop_spans(Dropped::Shutdown, self.count);
    }
}
