import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readFlowCount } from "./flow-count.ts";
import { type OvsdbSession, withOvsdb } from "./ovsdb-session.ts";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";

/** Daemons that misbehave. `test/network/ovs-switch.test.ts` has the real ones. */

const { signal } = new AbortController();
let folder: string;
let server: Server | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "berth-ovsdb-"));
});
afterEach(async () => {
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  server = undefined;
  await rm(folder, { recursive: true });
});

/** Starts a daemon that calls back for each chunk of a client. */
async function listen(onChunk: (text: string, socket: Socket, chunk: Buffer) => void) {
  const socketPath = join(folder, "daemon.sock");
  const daemon = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => onChunk(chunk.toString(), socket, chunk));
  });
  server = daemon;
  await new Promise<void>((resolve) => {
    daemon.listen(socketPath, resolve);
  });
  return { socketPath, timeoutMs: 30_000, signal };
}

const select = (session: OvsdbSession) =>
  session.transact([{ op: "select", table: "Bridge", where: [] }]);
const answer = (id: unknown, result: unknown, error: unknown = null) =>
  JSON.stringify({ id, result, error });
const rows = [{ name: "ü" }];
/** An error on one line, without the details of the schema. */
const unexpected =
  /^Open vSwitch failed: \S+ sent an unexpected answer\. Check its version and log\.$/;

describe("a session with a database that misbehaves", () => {
  it("answers an echo, and ignores the answer to another call", async () => {
    let hasEchoed = false;
    const options = await listen((text, socket) => {
      const { id, method, result } = JSON.parse(text) as Record<string, unknown>;
      if (method === undefined) {
        expect({ id, result }).toEqual({ id: "echo", result: ["x"] });
        hasEchoed = true;
        socket.write(answer(99, []) + answer(1, [{ rows }]));
      } else socket.write(JSON.stringify({ method: "echo", params: ["x"], id: "echo" }));
    });
    expect(await withOvsdb(options, select)).toEqual([{ count: 0, rows }]);
    expect(hasEchoed).toBe(true);
  });

  it("reads an answer that arrives byte by byte", async () => {
    const options = await listen((_text, socket) => {
      for (const byte of Buffer.from(answer(1, [{ rows }]))) socket.write(Buffer.from([byte]));
    });
    expect(await withOvsdb(options, select)).toEqual([{ count: 0, rows }]);
  });

  it("rejects at an end of the connection within an answer", async () => {
    const options = await listen((_text, socket) => socket.end(answer(1, []).slice(0, -1)));
    const failed = withOvsdb(options, select);
    await expect(failed).rejects.toThrow(SwitchError);
    await expect(failed).rejects.toThrow("the connection was closed. Check that it runs.");
  });

  it("rejects refusals, and answers that are none", async () => {
    const texts: [text: string, reason: string | RegExp][] = [
      [answer(1, null, { error: "unknown database" }), "refused a call"],
      [
        answer(1, [{}, { error: "constraint violation", details: "twice" }]),
        "refused an operation: constraint violation: twice",
      ],
      ["not JSON", "the answer is not a JSON object. Check that it runs."],
      ["{]", unexpected],
      [answer(1, { rows }), unexpected],
      ['{"neither":1}', unexpected],
    ];
    let next = "";
    const options = await listen((_text, socket) => socket.write(next));
    for (const [text, reason] of texts) {
      next = text;
      const failed = withOvsdb(options, select);
      await expect(failed).rejects.toThrow(SwitchError);
      await expect(failed).rejects.toThrow(reason);
    }
  });

  it("rejects an answer above its limit while it arrives", async () => {
    const chunk = "x".repeat(2 ** 20);
    const options = await listen((_text, socket) => {
      socket.write('{"');
      for (let sent = 0; sent <= 16; sent += 1) socket.write(chunk);
    });
    await expect(withOvsdb(options, select)).rejects.toThrow("more than 16777216 bytes");
  });

  it("rejects at its deadline, and says which daemon does not answer", async () => {
    const options = { ...(await listen(() => undefined)), timeoutMs: 50 };
    await expect(withOvsdb(options, select)).rejects.toThrow(
      "ovsdb-server did not answer within 50 ms. Check that it runs.",
    );
  });

  it("rejects if the switch daemon never applies a change", async () => {
    const options = await listen((text, socket) => {
      const { id, method } = JSON.parse(text) as Record<string, unknown>;
      const applied = { Open_vSwitch: { row: { new: { cur_cfg: 6 } } } };
      if (method === "monitor") socket.write(answer(id, applied));
      else socket.write(answer(id, [{ count: 1 }, { rows: [{ next_cfg: 7 }] }]));
    });
    const failed = withOvsdb({ ...options, timeoutMs: 300 }, (session) => session.apply([]));
    await expect(failed).rejects.toThrow("ovs-vswitchd did not answer within 300 ms.");
  });

  it("rejects when its signal is aborted, before the call and during it", async () => {
    const aborter = new AbortController();
    const options = { ...(await listen(() => aborter.abort())), signal: aborter.signal };
    for (const when of ["during", "before"])
      await expect(withOvsdb(options, select), when).rejects.toThrow("was aborted");
  });

  it("rejects without a daemon", async () => {
    const options = { socketPath: join(folder, "none"), timeoutMs: 30_000, signal };
    await expect(withOvsdb(options, select)).rejects.toThrow(/ENOENT.*Check that it runs\.$/);
  });
});

describe("readFlowCount with a daemon that misbehaves", () => {
  const hello = "0500000800000001";
  const reply = `05130028000000020002000000000000${"00".repeat(16)}0000002a00000000`;

  it("answers an echo, and reads a reply that arrives byte by byte", async () => {
    const echo = "0502000c0000000701020304";
    const options = await listen((_text, socket, chunk) => {
      if (chunk.toString("hex") === "0503000c0000000701020304")
        for (const byte of Buffer.from(reply, "hex")) socket.write(Buffer.from([byte]));
      else socket.write(Buffer.from(hello + echo, "hex"));
    });
    expect(await readFlowCount(options)).toBe(42);
  });

  it("rejects an error, a message without a header, and a reply without a number", async () => {
    const messages: [message: string, reason: string | RegExp][] = [
      ["0501000c0000000200010001", "refused to count flows: 00010001."],
      ["0513000000000002", "a message without a header"],
      ["0513000800000002", unexpected],
    ];
    let next = "";
    const options = await listen((_text, socket) => socket.write(Buffer.from(next, "hex")));
    for (const [message, reason] of messages) {
      next = hello + message;
      const failed = readFlowCount(options);
      await expect(failed, message).rejects.toThrow(SwitchError);
      await expect(failed, message).rejects.toThrow(reason);
    }
  });

  it("rejects at the end of the connection", async () => {
    const options = await listen((_text, socket) => socket.end(Buffer.from(hello, "hex")));
    await expect(readFlowCount(options)).rejects.toThrow("the connection was closed");
  });
});
