import { z } from "zod";

/** The largest payload of a frame. */
export const FRAME_PAYLOAD_BYTES_MAX = 32 * 1024;
/** The largest frame: one byte for its type, then the payload. */
export const FRAME_BYTES_MAX = 1 + FRAME_PAYLOAD_BYTES_MAX;

/** The streams of a session, in the order of their type bytes from 1 on. */
export const dataStreams = ["stdin", "stdout", "stderr"] as const;
export type DataStream = (typeof dataStreams)[number];
const CONTROL_TYPE = 0;

const COMMAND_WORDS_MAX = 256;
const COMMAND_CHARACTERS_MAX = 16_384;
const ENV_MAX = 64;

const terminalSide = z.number().int().min(1).max(10_000);
const stream = z.enum(dataStreams);

/** The signals that a caller may send to the program of a session. */
export const sessionSignals = ["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM"] as const;
export type SessionSignal = (typeof sessionSignals)[number];

const openSchema = z.object({
  type: z.literal("open"),
  /** Empty for a session that starts no program. */
  command: z
    .array(z.string().max(COMMAND_CHARACTERS_MAX))
    .max(COMMAND_WORDS_MAX)
    .refine(
      (words) => words.reduce((sum, word) => sum + word.length, 0) <= COMMAND_CHARACTERS_MAX,
      `expected at most ${COMMAND_CHARACTERS_MAX} characters in all`,
    ),
  /** Without standard input, the program reads an empty one. */
  stdin: z.boolean(),
  tty: z.boolean(),
  /** The size of the terminal. Only with `tty`. */
  cols: terminalSide.optional(),
  rows: terminalSide.optional(),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(4_096))
    .refine((env) => Object.keys(env).length <= ENV_MAX, `expected at most ${ENV_MAX} variables`)
    .optional(),
  /** A user of the container, or its id. */
  user: z
    .string()
    .regex(/^[A-Za-z0-9_.:-]{1,64}$/)
    .optional(),
});
export type SessionOpen = Omit<z.infer<typeof openSchema>, "type">;

/**
 * The controls of a session. The caller sends `open`, `resize` and `signal`; the agent sends
 * `opened`, `exit` and `error`. Both send `eof` at the end of a stream, and `window` for the bytes
 * of a stream that the sender may send further.
 */
const controlSchema = z.discriminatedUnion("type", [
  openSchema,
  z.object({ type: z.literal("opened") }),
  z.object({ type: z.literal("resize"), cols: terminalSide, rows: terminalSide }),
  z.object({ type: z.literal("signal"), name: z.enum(sessionSignals) }),
  z.object({ type: z.literal("eof"), stream }),
  z.object({
    type: z.literal("window"),
    stream,
    bytes: z
      .number()
      .int()
      .min(1)
      .max(2 ** 30),
  }),
  /** 128 + the number of the signal for a program that a signal ended. */
  z.object({ type: z.literal("exit"), code: z.number().int().min(0).max(255) }),
  z.object({ type: z.literal("error"), code: z.string().max(64), text: z.string().max(2_000) }),
]);
export type SessionControl = z.infer<typeof controlSchema>;
const controlTypes: ReadonlySet<string> = new Set(
  controlSchema.options.map((option) => option.shape.type.value),
);

/** unknown: a control of a newer peer, which the receiver ignores. */
export type Frame =
  | { kind: "data"; stream: DataStream; bytes: Uint8Array }
  | { kind: "control"; control: SessionControl }
  | { kind: "unknown" };

const encoder = new TextEncoder();

/** Encodes at most FRAME_PAYLOAD_BYTES_MAX bytes of a stream. */
export function encodeData(stream: DataStream, bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(1 + bytes.length);
  frame[0] = 1 + dataStreams.indexOf(stream);
  frame.set(bytes, 1);
  return frame;
}

export function encodeControl(control: SessionControl): Uint8Array {
  const text = encoder.encode(JSON.stringify(control));
  const frame = new Uint8Array(1 + text.length);
  frame[0] = CONTROL_TYPE;
  frame.set(text, 1);
  return frame;
}

/** Decodes a message. The bytes of a stream share its memory. Undefined if it is not a frame. */
export function decodeFrame(message: Uint8Array): Frame | undefined {
  const [type] = message;
  if (type === undefined || message.length > FRAME_BYTES_MAX) return undefined;
  const payload = message.subarray(1);
  if (type === CONTROL_TYPE) return decodeControl(payload);
  const stream = dataStreams[type - 1];
  return stream && { kind: "data", stream, bytes: payload };
}

function decodeControl(payload: Uint8Array): Frame | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch {
    return undefined;
  }
  const type = (value as { type?: unknown } | null)?.type;
  if (typeof type !== "string") return undefined;
  if (!controlTypes.has(type)) return { kind: "unknown" };
  const parsed = controlSchema.safeParse(value);
  return parsed.success ? { kind: "control", control: parsed.data } : undefined;
}
