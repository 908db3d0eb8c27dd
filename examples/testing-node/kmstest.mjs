// A client of the control API of `kms serve --test` (docs/testing.md). Its url is the endpoint for a KMSClient.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export class TestKMS {
  constructor(url) {
    this.url = url;
  }
  async #request(method, path, body) {
    const headers = body ? { "Content-Type": "application/json" } : {};
    const response = await fetch(`${this.url}/test/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${answer.error}`);
    return answer;
  }
  now = async () => new Date((await this.#request("GET", "/clock")).now);
  advance = (by) => this.#request("POST", "/advance", by); // { days: 30 }
  inject = (fault) => this.#request("POST", "/faults", fault); // { operations: ["Encrypt"], error: "ThrottlingException", count: 2 }
  calls = async (...names) => (await this.#request("GET", `/calls?${new URLSearchParams(names.map((n) => ["operation", n]))}`)).calls;
  seed = (keys) => this.#request("POST", "/seed", { version: 1, keys });
  reset = () => this.#request("POST", "/reset");
  fork = async (options) => new TestKMS((await this.#request("POST", "/fork", options)).url);
  delete = () => this.#request("DELETE", "");
}

// start starts a service. Its stop method ends it.
export async function start(program = process.env.KMS ?? "kms") {
  const child = spawn(program, ["serve", "--test", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "ignore"] });
  const [url] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), once(child, "exit").then(() => [])]);
  if (!url) throw new Error(`${program} serve --test has ended; run it to see why`);
  return Object.assign(new TestKMS(url), { stop: () => child.kill() });
}
