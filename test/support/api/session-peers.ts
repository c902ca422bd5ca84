import { createSocketDialer } from "../../../src/main/compose/dial-web-socket.ts";
import {
  type DataStream,
  decodeFrame,
  encodeControl,
  type SessionControl,
} from "../../../src/contracts/sessions/frames.ts";
import type { SessionSocket } from "../../../src/contracts/sessions/session-socket.ts";
import { waitUntil } from "../wait-until.ts";

/** One end of a session, which sends any frames and records the received ones. */
export interface SessionPeer {
  socket: SessionSocket;
  controls: SessionControl[];
  received: Record<DataStream, string>;
  /** The code of the closed connection; undefined while it is open. */
  closeCode(): number | undefined;
  send(control: SessionControl): void;
  untilClosed(): Promise<number>;
}

const dial = createSocketDialer();

/** Connects as a caller or as an agent. Rejects with SocketRefused after any other answer. */
export async function connectPeer(
  url: string,
  token: string,
  headers: Record<string, string> = {},
): Promise<SessionPeer> {
  const socket = await dial(url, { headers: { authorization: `Bearer ${token}`, ...headers } });
  const controls: SessionControl[] = [];
  const received = { stdin: "", stdout: "", stderr: "" };
  const end: { code: number | undefined } = { code: undefined };
  socket.on("message", (message) => {
    const frame = decodeFrame(message);
    if (frame?.kind === "control") controls.push(frame.control);
    if (frame?.kind === "data") received[frame.stream] += Buffer.from(frame.bytes).toString();
  });
  socket.on("close", (code) => {
    end.code = code;
  });
  socket.on("error", () => undefined);
  socket.resume();
  return {
    socket,
    controls,
    received,
    closeCode: () => end.code,
    send: (control) => socket.send(encodeControl(control)),
    untilClosed: async () => {
      await waitUntil("the connection is closed", () => end.code !== undefined);
      return end.code ?? -1;
    },
  };
}
