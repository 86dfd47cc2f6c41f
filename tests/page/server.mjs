// The real server on a port of its own, and real traffic for it.

import { spawn } from "node:child_process";
import { Agent, request } from "node:http";

const BINARY = process.env.PLIMSOLL ?? new URL("../../target/release/plimsoll", import.meta.url).pathname;

/** Starts `plimsoll serve` with these flags; resolves once it listens. */
export async function serve(...flags) {
  const child = spawn(BINARY, ["serve", "--hostname", "127.0.0.1", "--port", "0", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  const url = await new Promise((found, failed) => {
    let said = "";
    child.stderr.on("data", (bytes) => {
      said = (said + bytes).slice(-20_000);
      const match = said.match(/^serving .* on (http:\/\/\S+)/m);
      if (match) found(match[1]);
    });
    child.on("error", failed);
    child.on("exit", () => failed(new Error(said)));
  });
  const stop = () => new Promise((stopped) => child.once("exit", stopped) && child.kill("SIGTERM"));
  return { url, pid: child.pid, stop };
}

/** Sends requests from so many clients until it is stopped; counts answers by status. */
export function traffic(url, clients, body) {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const statuses = {};
  let going = true;
  const send = () =>
    new Promise((done) => {
      const sent = request(`${url}/v1/analyze`, { agent, method: "POST", headers: { "content-type": "application/json" } }, (response) => {
        statuses[response.statusCode] = (statuses[response.statusCode] ?? 0) + 1;
        response.resume().on("end", done).on("error", done);
      });
      sent.on("error", done);
      sent.end(JSON.stringify(body()));
    });
  const client = async () => {
    while (going) await send();
  };
  const all = Array.from({ length: clients }, client);
  return {
    statuses,
    async stop() {
      going = false;
      await Promise.all(all);
      agent.destroy();
    },
  };
}

const ZH = "小明昨天从北京去了上海，他在复旦大学工作，很喜欢那里的图书馆。";
const EN = "Samuel Plimsoll was born in Bristol and sat in Parliament for Derby. ";

/** A text of one to `sentences` sentences. */
export const text = (sentences) => (Math.random() < 0.5 ? ZH : EN).repeat(1 + Math.floor(Math.random() * sentences));
