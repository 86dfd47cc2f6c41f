// The clients for Node.
import OpenAI from "openai";
import { readFileSync } from "node:fs";

const { PLIMSOLL_MAIN: MAIN, PLIMSOLL_LOCKED: LOCKED } = process.env;
const MODEL = "plimsoll-e5-6";
const TEXTS = ["我在北京上海工作，很喜欢 Rust。", "Angela Merkel visited Paris."];
const version = JSON.parse(readFileSync(new URL("node_modules/openai/package.json", import.meta.url))).version;
const client = (address = MAIN, apiKey = "any") => new OpenAI({ baseURL: `http://${address}/v1`, apiKey, maxRetries: 0 });

function assert(holds, why) {
  if (!holds) throw new Error(why);
}

function close(ours, theirs) {
  assert(ours.length === theirs.length && ours.length > 0, `${ours.length} and ${theirs.length}`);
  ours.forEach((one, place) => assert(Math.abs(one - theirs[place]) < 1e-6, `${one} and ${theirs[place]}`));
}

async function fails(call, status, said) {
  try {
    await call();
  } catch (error) {
    assert(error.status === status && error.message.includes(said), `${error.status} ${error.message}`);
    return;
  }
  throw new Error("it did not fail");
}

const checks = {
  async embeddings() {
    const answer = await fetch(`http://${MAIN}/embed`, { method: "POST", body: JSON.stringify({ inputs: TEXTS }) });
    const expected = await answer.json();
    for (const options of [{}, { encoding_format: "float" }]) {
      const { data, usage } = await client().embeddings.create({ model: MODEL, input: TEXTS, ...options });
      data.forEach((one, place) => close(one.embedding, expected[place]));
      assert(usage.total_tokens > 10, "tokens are counted");
    }
  },
  async models() {
    const { data } = await client().models.list();
    assert(data.length === 1 && data[0].id === MODEL, JSON.stringify(data));
  },
  async errors() {
    await fails(() => client().embeddings.create({ model: "other", input: "a" }), 404, "no such model");
    await fails(() => client().embeddings.create({ model: MODEL, input: "x ".repeat(2_000_000) }), 413, "the limit is");
  },
  async key() {
    await fails(() => client(LOCKED, "wrong").models.list(), 401, "valid key");
    assert((await client(LOCKED, "secret").models.list()).data.length === 1, "the key opens");
  },
};

for (const [feature, run] of Object.entries(checks)) {
  const result = { client: `openai (Node) ${version}`, feature, passed: true };
  try {
    await run();
  } catch (error) {
    Object.assign(result, { passed: false, why: String(error) });
  }
  console.log(JSON.stringify(result));
}
