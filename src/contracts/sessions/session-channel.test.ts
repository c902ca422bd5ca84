import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSocketPair, type FakeSocket } from "../../../test/support/fakes/socket-pair.ts";
import { ReceiveWindow, SendWindow, WINDOW_BYTES } from "./credit.ts";
import { type DataStream, encodeControl, encodeData, type SessionControl } from "./frames.ts";
import { SessionChannel } from "./session-channel.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

function open(socket: FakeSocket, sends: readonly DataStream[]) {
  const seen = { bytes: 0, controls: [] as SessionControl[], closed: [] as string[] };
  const pieces: Uint8Array[] = [];
  const channel = new SessionChannel(socket, {
    sends,
    onData: (_stream, bytes) => {
      seen.bytes += bytes.length;
      pieces.push(bytes);
    },
    onControl: (control) => seen.controls.push(control),
    onClose: ({ message }) => seen.closed.push(message),
  });
  return { channel, seen, pieces };
}

function openPair() {
  const [one, other] = createSocketPair();
  return { caller: open(one, ["stdin"]), agent: open(other, ["stdout", "stderr"]), one, other };
}

describe("credit", () => {
  it("never lets more than a window be in flight, and never gets stuck", () => {
    const steps = fc.array(fc.record({ send: fc.nat(200_000), consume: fc.nat(200_000) }));
    fc.assert(
      fc.property(steps, (run) => {
        const sender = new SendWindow();
        const receiver = new ReceiveWindow();
        let unconsumed = 0;
        for (const { send, consume } of run) {
          const sent = sender.take(send);
          expect(receiver.receive(sent)).toBe(true);
          unconsumed += sent;
          expect(unconsumed).toBeLessThanOrEqual(WINDOW_BYTES);
          const consumed = Math.min(consume, unconsumed);
          unconsumed -= consumed;
          const granted = receiver.consume(consumed);
          if (granted > 0) expect(sender.grant(granted)).toBe(true);
        }
        const granted = receiver.consume(unconsumed);
        if (granted > 0) sender.grant(granted);
        expect(sender.take(1)).toBe(1);
      }),
    );
  });
});

describe("a channel", () => {
  it("delivers all bytes in order, whatever the pace of the receiver", async () => {
    const { caller, agent } = openPair();
    const sent = Uint8Array.from({ length: 3 * WINDOW_BYTES + 17 }, (_, at) => (at * 31) % 251);
    const sending = agent.channel.send("stdout", sent);
    let consumed = 0;
    while (consumed < sent.length) {
      await turn();
      const ready = Math.min(50_000, caller.seen.bytes - consumed);
      caller.channel.consume("stdout", ready);
      consumed += ready;
    }
    await sending;
    expect(Buffer.compare(Buffer.concat(caller.pieces), sent)).toBe(0);
  });

  it("holds the sender when the receiver consumes nothing", async () => {
    const { caller, agent } = openPair();
    let isSent = false;
    const sending = agent.channel.send("stdout", new Uint8Array(10 * WINDOW_BYTES));
    sending.then(() => (isSent = true)).catch(() => undefined);
    for (let count = 0; count < 100; count++) await turn();
    expect(caller.seen.bytes).toBe(WINDOW_BYTES);
    expect(isSent).toBe(false);
    caller.channel.close("done");
    await expect(sending).rejects.toMatchObject({ name: "SessionClosed" });
  });

  it("has a window of its own for each stream and direction", async () => {
    const { caller, agent } = openPair();
    agent.channel.send("stdout", new Uint8Array(2 * WINDOW_BYTES)).catch(() => undefined);
    await agent.channel.send("stderr", new Uint8Array(WINDOW_BYTES));
    await caller.channel.send("stdin", new Uint8Array(WINDOW_BYTES));
    await turn();
    expect([caller.seen.bytes, agent.seen.bytes]).toEqual([2 * WINDOW_BYTES, WINDOW_BYTES]);
  });

  it.each([
    ["garbage", Uint8Array.of(99, 1, 2)],
    ["an empty message", new Uint8Array()],
    ["a stream of its own", encodeData("stdin", Uint8Array.of(1))],
    ["credit for what it never got", encodeControl({ type: "window", stream: "stdin", bytes: 1 })],
  ])("ends after %s", async (_title, message) => {
    const { caller, other } = openPair();
    other.send(message);
    await turn();
    expect(caller.seen.closed).toEqual(["The peer sent a malformed frame."]);
    expect(caller.seen.bytes).toBe(0);
  });

  it("ends after bytes without credit", async () => {
    const { caller, other } = openPair();
    for (let count = 0; count < 9; count++)
      other.send(encodeData("stdout", new Uint8Array(32_768)));
    await turn();
    expect(caller.seen.bytes).toBe(WINDOW_BYTES);
    expect(caller.channel.isClosed).toBe(true);
  });

  it("reports the end of the connection once at both ends", async () => {
    const { caller, agent } = openPair();
    caller.channel.close("bye");
    caller.channel.close("again");
    await turn();
    await turn();
    expect(caller.seen.closed).toEqual(["bye"]);
    expect(agent.seen.closed).toEqual(["bye"]);
    await expect(agent.channel.send("stdout", Uint8Array.of(1))).rejects.toThrow("bye");
  });
});
