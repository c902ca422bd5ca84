import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { transform } from "esbuild";
import { expect, it } from "vitest";

const logWriterFile = new URL("../../src/lib/log-writer.ts", import.meta.url);
const logModule = new URL("../../src/lib/log.ts", import.meta.url).href;
const root = fileURLToPath(new URL("../../", import.meta.url));

async function runWithLog(code: string): Promise<string[]> {
  const lines = await readLines(code);
  return lines.map((line) => (JSON.parse(line) as { msg: string }).msg);
}

function flagsOf(code: string): string[] {
  const program = `
    import { createLog } from ${JSON.stringify(logModule)};
    const log = createLog({ service: "test", version: "0", level: "info" });
    ${code}`;
  return ["--import", "tsx", "--input-type=module", "--eval", program];
}

/** Runs the program with an output that takes no line. Returns its exit code, or a signal. */
async function runWith(
  stdout: "closed" | "full" | "unread",
  code: string,
  flags = flagsOf(code),
): Promise<number | string> {
  const file = stdout === "full" ? await open("/dev/full", "w") : undefined;
  const child = spawn(process.execPath, flags, {
    cwd: root,
    stdio: ["ignore", file?.fd ?? "pipe", "inherit"],
    timeout: 30_000,
  });
  if (stdout === "closed") child.stdout?.destroy();
  const [exitCode, signal] = (await once(child, "exit")) as [number | null, string];
  child.stdout?.destroy();
  await file?.close();
  return exitCode ?? signal;
}

async function readLines(code: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(process.execPath, flagsOf(code), {
    cwd: root,
    timeout: 30_000,
    maxBuffer: 64 * 2 ** 20,
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

it.each(["closed", "full"] as const)(
  "lets the process run on and exit while its output is %s",
  async (output) => {
    expect(await runWith(output, `log.info({}, "lost"); process.exit(3);`)).toBe(3);
    const goingOn = `for (let n = 0; n < 1_000; n++) log.info({ n }, "lost");
      setTimeout(() => { log.info({}, "lost"); process.exit(4); }, 300);`;
    expect(await runWith(output, goingOn)).toBe(4);
  },
);

it.each(["queued", "in flight"])(
  "lets the process exit while nothing reads its output and lines are %s",
  async (place) => {
    // Without tsx, which makes the output non-blocking.
    const { code: writer } = await transform(await readFile(logWriterFile, "utf8"), {
      loader: "ts",
    });
    const last = place === "queued" ? `log.write("last");` : "";
    const code = `${writer}
      const log = openLogWriter(1);
      for (let n = 0; n < 20_000; n++) log.write("x".repeat(99) + "\\n");
      setTimeout(() => { ${last} process.exit(5); }, 300);`;
    const flags = ["--input-type=module", "--eval", code];
    expect(await runWith("unread", code, flags)).toBe(5);
  },
);

it("writes everything to a slow reader, in order and in whole lines", async () => {
  const code = `process.stdout.write("");
    for (let n = 0; n < 20_000; n++) log.info({}, "line " + n + " é");
    setTimeout(() => log.info({}, "last"), 300);`;
  const expected = Array.from({ length: 20_000 }, (_, n) => `line ${n} é`);
  expect(await runWithLog(code)).toEqual([...expected, "last"]);
});
