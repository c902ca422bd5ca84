import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { runCommand } from "../exec.ts";

const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
const subject = new URL("./open-docker.ts", import.meta.url).href;

/** Runs a program in a process of its own, because this one may have loaded the modules. */
async function run(program: string): Promise<unknown> {
  const args = ["--import", tsx, "--input-type=module", "--eval", program];
  return JSON.parse(await runCommand(process.execPath, args, { timeoutMs: 120_000 }));
}

it("opens a client without loading SSH and gRPC, and later imports get the real ones", async () => {
  const program = `
    import { createRequire } from "node:module";
    import { openDocker } from "${subject}";
    const require = createRequire("${subject}");
    const docker = openDocker("/nonexistent/docker.sock");
    const isLoaded = Object.keys(require.cache).some((file) => /node_modules.(ssh2|@grpc)/.test(file));
    const error = await docker.ping().catch(({ code }) => code);
    const { Client } = require("ssh2");
    console.log(JSON.stringify({ isLoaded, error, ssh: typeof Client }));
  `;
  expect(await run(program)).toEqual({ isLoaded: false, error: "ENOENT", ssh: "function" });
});
