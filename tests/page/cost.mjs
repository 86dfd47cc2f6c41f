// What watching costs the server: processor time with no pages and with eight, bytes of the stream, and the resident size.
// node cost.mjs [SECONDS]

import { readdirSync, readFileSync } from "node:fs";
import { serve } from "./server.mjs";

const SECONDS = Number(process.argv[2] ?? 20);
const sleep = (s) => new Promise((resume) => setTimeout(resume, s * 1000));

const server = await serve("--memory-limit", "128MiB");
/** Seconds of processor, to the nanosecond, of all threads. */
const cpu = () => {
  const threads = readdirSync(`/proc/${server.pid}/task`);
  return threads.reduce((sum, thread) => sum + Number(readFileSync(`/proc/${server.pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e9, 0);
};
const resident = () => Number(readFileSync(`/proc/${server.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1]);

async function measure(watchers) {
  const stop = new AbortController();
  let bytes = 0;
  const watch = async () => {
    const response = await fetch(`${server.url}/live`, { signal: stop.signal });
    for await (const chunk of response.body) bytes += chunk.length;
  };
  const all = Array.from({ length: watchers }, () => watch().catch(() => {}));
  await sleep(2);
  const [before, read] = [cpu(), bytes];
  await sleep(SECONDS);
  const used = cpu() - before;
  console.log(`${watchers} watchers: ${((1000 * used) / SECONDS).toFixed(2)} ms of processor a second, ${((bytes - read) / SECONDS / Math.max(watchers, 1) / 1024).toFixed(1)} KiB/s each, ${resident()} KiB resident`);
  stop.abort();
  await Promise.all(all);
}

for (const watchers of [0, 1, 8]) await measure(watchers);
await server.stop();
