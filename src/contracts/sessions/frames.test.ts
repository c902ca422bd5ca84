import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  dataStreams,
  decodeFrame,
  encodeControl,
  encodeData,
  FRAME_BYTES_MAX,
  FRAME_PAYLOAD_BYTES_MAX,
  type SessionControl,
  sessionSignals,
} from "./frames.ts";

const side = fc.integer({ min: 1, max: 10_000 });
const stream = fc.constantFrom(...dataStreams);
const control: fc.Arbitrary<SessionControl> = fc.oneof(
  fc.record({
    type: fc.constant("open" as const),
    command: fc.array(fc.string({ unit: "grapheme", maxLength: 20 }), { maxLength: 8 }),
    stdin: fc.boolean(),
    tty: fc.boolean(),
    cols: side,
    rows: side,
  }),
  fc.constant({ type: "opened" as const }),
  fc.record({ type: fc.constant("resize" as const), cols: side, rows: side }),
  fc.record({ type: fc.constant("signal" as const), name: fc.constantFrom(...sessionSignals) }),
  fc.record({ type: fc.constant("eof" as const), stream }),
  fc.record({
    type: fc.constant("window" as const),
    stream,
    bytes: fc.integer({ min: 1, max: 2 ** 30 }),
  }),
  fc.record({ type: fc.constant("exit" as const), code: fc.integer({ min: 0, max: 255 }) }),
  fc.record({
    type: fc.constant("error" as const),
    code: fc.string({ maxLength: 64 }),
    text: fc.string({ maxLength: 99 }),
  }),
);

describe("the frames of a session", () => {
  it("decode to the control that was encoded", () => {
    fc.assert(
      fc.property(control, (sent) => {
        expect(decodeFrame(encodeControl(sent))).toEqual({ kind: "control", control: sent });
      }),
    );
  });

  it("carry any bytes of a stream unchanged", () => {
    const bytes = fc.uint8Array({ maxLength: 2_000 });
    fc.assert(
      fc.property(stream, bytes, (name, sent) => {
        const frame = decodeFrame(encodeData(name, sent));
        expect(frame).toMatchObject({ kind: "data", stream: name });
        expect(frame?.kind === "data" && Buffer.compare(frame.bytes, sent)).toBe(0);
      }),
    );
  });

  it("decode from any bytes without an exception", () => {
    const message = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(message, (bytes) => {
        const frame = decodeFrame(bytes);
        const type = bytes[0] ?? 255;
        if (type > dataStreams.length) expect(frame).toBeUndefined();
      }),
    );
    const json = fc.json().map((text) => Uint8Array.of(0, ...Buffer.from(text)));
    fc.assert(fc.property(json, (bytes) => void decodeFrame(bytes)));
  });

  it("are refused above their largest size", () => {
    const largest = encodeData("stdin", new Uint8Array(FRAME_PAYLOAD_BYTES_MAX));
    expect(decodeFrame(largest)?.kind).toBe("data");
    expect(decodeFrame(new Uint8Array(FRAME_BYTES_MAX + 1).fill(1))).toBeUndefined();
  });

  it("decode unknown controls of a newer peer, but no violation of a known control", () => {
    const encode = (value: unknown) => Uint8Array.of(0, ...Buffer.from(JSON.stringify(value)));
    expect(decodeFrame(encode({ type: "teleport", to: 7 }))).toEqual({ kind: "unknown" });
    expect(decodeFrame(encode({ type: "resize", cols: -1, rows: 2 }))).toBeUndefined();
    expect(decodeFrame(encode({ type: "constructor" }))).toEqual({ kind: "unknown" });
    expect(decodeFrame(encode(null))).toBeUndefined();
    expect(decodeFrame(Uint8Array.of(0, 0xff, 0xfe))).toBeUndefined();
    expect(decodeFrame(new Uint8Array())).toBeUndefined();
  });

  it("have a bounded command", () => {
    const open = { type: "open", stdin: false, tty: false } as const;
    const longest = { ...open, command: ["x".repeat(16_384)] };
    expect(decodeFrame(encodeControl(longest))?.kind).toBe("control");
    const longer = { ...open, command: ["x".repeat(16_384), "x"] };
    expect(decodeFrame(encodeControl(longer))).toBeUndefined();
  });
});
