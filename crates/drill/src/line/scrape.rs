//! What the server says of itself on `/metrics`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// One reading of `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    /// Asks `address`.
    ///
    /// # Errors
    /// The kernel's, or an end without an answer.
    pub fn of(address: SocketAddr) -> std::io::Result<Metrics> {
        let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nhost: drill\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        tcp.read_to_string(&mut text)?;
        match text.starts_with("HTTP/1.1 200 ") {
            true => Ok(Metrics(text)),
            false => Err(std::io::Error::other("/metrics did not answer 200")),
        }
    }

    /// The value of the series with exactly this name and labels.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(line)
    }

    /// The sum of the series with this name, whatever their labels; `None` of none.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let rest = rest
                .strip_prefix('{')
                .map_or(Some(rest), |labels| Some(labels.split_once('}')?.1))?;
            rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
        };
        self.0.lines().filter_map(value).reduce(|sum, value| sum + value)
    }

    /// The bound under which `share` of what the histogram counted since `before` lies; `None` when it counted nothing.
    pub fn quantile_since(&self, before: &Metrics, histogram: &str, share: f64) -> Option<f64> {
        let prefix = format!("{histogram}_bucket{{le=\"");
        let buckets: Vec<(f64, f64)> = self
            .0
            .lines()
            .filter_map(|line| {
                let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
                let series = format!("{prefix}{bound}\"}}");
                let count = count.parse::<f64>().ok()? - before.value(&series).unwrap_or(0.0);
                Some((bound.parse().unwrap_or(f64::INFINITY), count))
            })
            .collect();
        let all = buckets.last()?.1;
        buckets
            .iter()
            .find(|(_, count)| all > 0.0 && *count >= share * all)
            .map(|(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_added() {
        let text = |a, b, c| {
            Metrics(format!(
                "h_bucket{{le=\"0.001\"}} {a}\nh_bucket{{le=\"0.01\"}} {b}\nh_bucket{{le=\"+Inf\"}} {c}\nh_count {c}\n"
            ))
        };
        let (before, after) = (text(100, 100, 100), text(100, 199, 200));
        assert_eq!(after.quantile_since(&before, "h", 0.99), Some(0.01));
        assert_eq!(after.quantile_since(&before, "h", 1.0), Some(f64::INFINITY));
        assert_eq!(before.quantile_since(&before, "h", 0.99), None);
        assert_eq!(after.value("h_count"), Some(200.0));
        let text = "r{why=\"a b\"} 2\nr{why=\"c\"} 3\nrest 9\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(
            (metrics.sum("r"), metrics.sum("rest"), metrics.sum("x")),
            (Some(5.0), Some(9.0), None)
        );
    }
}
