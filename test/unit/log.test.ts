import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const logModule = new URL("../../src/lib/log.ts", import.meta.url).href;
const root = fileURLToPath(new URL("../../", import.meta.url));

async function runWithLog(code: string): Promise<string[]> {
  const lines = await readLines(code);
  return lines.map((line) => (JSON.parse(line) as { msg: string }).msg);
}

async function readLines(code: string): Promise<string[]> {
  const program = `
    import { createLog } from ${JSON.stringify(logModule)};
    const log = createLog({ service: "test", version: "0", level: "info" });
    ${code}`;
  const flags = ["--import", "tsx", "--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, flags, {
    cwd: root,
    timeout: 30_000,
  }).catch((error: { stdout: string; killed: boolean }) => {
    if (error.killed) throw error;
    return error; // the program ended with a different code than 0
  });
  return stdout.split("\n").filter((line) => line !== "");
}

it("writes the lines that it has buffered when the process exits", async () => {
  const code = `for (let n = 0; n < 100; n++) log.info({ n }, "line " + n); process.exit(3);`;
  expect(await runWithLog(code)).toEqual(Array.from({ length: 100 }, (_, n) => `line ${n}`));
});

it("writes the lines that it has buffered when an exception ends the process", async () => {
  const code = `log.error({}, "last words"); throw new Error("fault of the test");`;
  expect(await runWithLog(code)).toEqual(["last words"]);
});

it("writes a line soon although the process goes on and logs no other", async () => {
  // The process ends by SIGKILL, after which it writes nothing.
  const code = `log.info({}, "alone");
    let ticks = 0;
    setInterval(() => ++ticks < 20 || process.kill(process.pid, "SIGKILL"), 100);`;
  expect(await runWithLog(code)).toEqual(["alone"]);
});

it("redacts credentials that a caller logs by mistake", async () => {
  const code = `const login = { username: "puller", password: "swordfish" };
    const secret = "swordfish";
    log.info({ login, secret, password: secret, token: secret }, "one");
    log.info({ credential: secret, body: { registry: login } }, "two");`;
  const text = (await readLines(code)).join("\n");
  expect(text.match(/puller/g)).toHaveLength(2);
  expect(text).not.toContain("swordfish");
});
