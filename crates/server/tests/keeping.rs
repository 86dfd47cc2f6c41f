//! What operators may ask of memory beyond the line: that it stays (`--lock-memory`), and that it goes (`POST /debug/reclaim`).

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use common::{Client, Reply, TinyModel};

struct Program {
    child: Child,
    debug: SocketAddr,
    address: SocketAddr,
    _model: TinyModel,
}

/// The program with a listener for diagnosis, or what it said instead of serving.
fn start(flags: &[&str]) -> Result<Program, String> {
    let model = TinyModel::new("bert-q4-heads");
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args([
            "serve",
            "--hostname",
            "localhost",
            "--port",
            "0",
            "--memory-limit",
            "256MiB",
        ])
        .args(["--debug-listen", "127.0.0.1:0", "--model-id", model.path()])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let mut address = |from: &str| -> Result<SocketAddr, String> {
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some((_, rest)) = line.split_once(from) {
                let address = rest.split(['/', ' ']).next().unwrap();
                return Ok(address.parse().expect("an address"));
            }
            said += &line;
        }
        Err(said.clone())
    };
    let found = address("diagnosis on http://").and_then(|debug| Ok((debug, address(" on http://")?)));
    // The rest of the lines is not read; the program does not wait for that.
    match found {
        Ok((debug, address)) => Ok(Program {
            child,
            debug,
            address,
            _model: model,
        }),
        Err(said) => {
            child.wait().unwrap();
            Err(said)
        }
    }
}

impl Program {
    fn ask(&self, address: SocketAddr, head: &str, body: &str) -> Reply {
        let mut client = Client::connect(address);
        let length = body.len();
        client.write(format!(
            "{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        client.reply()
    }

    /// A line of `/proc/PID/status`, in bytes.
    fn status_bytes(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    fn reclaim(&self) -> (usize, usize) {
        let reply = self.ask(self.debug, "POST /debug/reclaim", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let said = reply.json();
        let bytes = |name: &str| said[name].as_u64().unwrap() as usize;
        assert!(said["cycle"].as_u64() > Some(0));
        (bytes("live_bytes_before"), bytes("live_bytes_after"))
    }

    /// Requests whose slots stay warm for those that come next.
    fn work(&self) {
        let texts: Vec<String> = (0..32)
            .map(|number| format!("\"{number} {}\"", "a b ".repeat(2000)))
            .collect();
        let body = format!("{{\"inputs\": [{}], \"truncate\": true}}", texts.join(","));
        for _ in 0..4 {
            assert_eq!(self.ask(self.address, "POST /embed", &body).status, 200);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_cycle_on_request_takes_all_that_is_idle() {
    let program = start(&[]).unwrap();
    program.work();
    let (before, after) = program.reclaim();
    assert!(before > 0 && after < before, "{before} then {after}");
    program.work();
    let (again, after_again) = program.reclaim();
    assert!(
        again > after && after_again <= after,
        "{again} then {after_again}"
    );
    assert_eq!(program.ask(program.debug, "GET /debug/reclaim", "").status, 405);
}

/// Locked pages would otherwise not be given back: `MADV_DONTNEED` refuses them.
#[test]
fn locked_memory_stays_and_is_given_back_all_the_same() {
    let program = match start(&["--lock-memory"]) {
        Ok(program) => program,
        Err(said) => {
            assert!(
                said.contains("--lock-memory: ") && said.contains("CAP_IPC_LOCK"),
                "{said}"
            );
            return;
        }
    };
    assert!(program.status_bytes("VmLck:") > 1 << 20);
    program.work();
    let held = program.status_bytes("RssAnon:");
    let (before, after) = program.reclaim();
    assert!(after < before, "{before} then {after}");
    // Slots are committed whole, and touched as far as they were needed.
    let freed = held.saturating_sub(program.status_bytes("RssAnon:"));
    assert!(freed >= (before - after) / 4, "{freed} of {}", before - after);
    program.work();
}

/// It is the same process, by the same name, and started anew once only, also where its environment does not say so.
#[cfg(target_env = "gnu")]
#[test]
fn serve_does_without_thread_caches() {
    let program = start(&[]).unwrap();
    let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", program.child.id())).unwrap();
    let environment = of("environ");
    let says = |what: &str| environment.split('\0').any(|line| line == what);
    assert!(says("PLIMSOLL_WITHOUT_THREAD_CACHES=1"), "{environment}");
    assert!(environment.contains("glibc.malloc.tcache_count=0"));
    assert_eq!(of("comm").trim(), "plimsoll");
    assert!(of("cmdline").contains("\0serve\0"));
}
