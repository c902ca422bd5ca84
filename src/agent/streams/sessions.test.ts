import { describe, expect, it } from "vitest";
import { createSocketPair, type FakeSocket } from "../../../test/support/fakes/socket-pair.ts";
import { waitUntil } from "../../../test/support/wait-until.ts";
import type { SessionRequest } from "../../contracts/agent-protocol/session-request.ts";
import type { SessionControl, SessionOpen } from "../../contracts/sessions/frames.ts";
import { SessionChannel } from "../../contracts/sessions/session-channel.ts";
import { systemClock } from "../../host-adapters/machine/system-clock.ts";
import { newId } from "../../lib/ids.ts";
import { silentLog } from "../../lib/log.ts";
import { createSessions } from "../engine/open-session.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { SessionOutput, SessionProcess } from "../ports/session-port.ts";
import { Sessions } from "./sessions.ts";

/** A program that repeats its input, and notes each call. */
class Echo implements SessionProcess {
  readonly calls: string[] = [];
  #waiting: SessionOutput[] = [];
  #isEnded = false;
  #wake: () => void = () => undefined;
  readonly output = this.#read();

  async *#read(): AsyncGenerator<SessionOutput> {
    for (;;) {
      const next = this.#waiting.shift();
      if (next) yield next;
      else if (this.#isEnded) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
  async write(bytes: Uint8Array): Promise<void> {
    this.#waiting.push({ stream: "stdout", bytes });
    this.#wake();
  }
  endInput(): void {
    this.#isEnded = true;
    this.#wake();
  }
  async resize({ cols, rows }: { cols: number; rows: number }): Promise<void> {
    this.calls.push(`${cols}x${rows}`);
  }
  async sendSignal(name: string): Promise<void> {
    this.calls.push(name);
  }
  async exitCode(): Promise<number> {
    return 4;
  }
  async end(): Promise<void> {
    this.calls.push("end");
    this.endInput();
  }
}

const listed = (name: string, index: number, dockerState = "running"): ListedContainer =>
  ({ dockerId: name, name, index, setId: "set", dockerState }) as unknown as ListedContainer;

/** The real sessions of an agent, over containers that only this test has. */
function host({ sessionsMax = 2 } = {}) {
  const containers = [listed("infra", -1), listed("app", 0), listed("old", 1, "exited")];
  const programs: Echo[] = [];
  const start = async () => {
    const program = new Echo();
    programs.push(program);
    return program;
  };
  const port = createSessions({
    containers: { list: async () => containers } as never,
    cgroups: {} as never,
    execs: { exec: start, attach: start },
  });
  const callers = new Map<string, FakeSocket>();
  const sessions = new Sessions({
    port,
    clock: systemClock,
    log: silentLog,
    sessionsMax,
    dial: async (sessionId) => {
      const [own, caller] = createSocketPair();
      callers.set(sessionId, caller);
      return own;
    },
  });
  const stopping = new AbortController();
  const ask = async (part: Partial<SessionRequest> = {}, open: Partial<SessionOpen> = {}) => {
    const request = { sessionId: newId("ses"), setId: "set", container: "app", ...part };
    sessions.serve([{ kind: "exec", ...request }], stopping.signal);
    await waitUntil("the agent connects", () => callers.has(request.sessionId));
    const seen = { controls: [] as SessionControl[], text: "", closed: "" };
    const channel = new SessionChannel(callers.get(request.sessionId) as FakeSocket, {
      sends: ["stdin"],
      onData: (_stream, bytes) => void (seen.text += Buffer.from(bytes).toString()),
      onControl: (control) => seen.controls.push(control),
      onClose: ({ message }) => void (seen.closed = message),
    });
    channel.sendControl({ type: "open", command: ["sh"], stdin: true, tty: false, ...open });
    return { channel, seen };
  };
  return { sessions, ask, programs, stop: () => stopping.abort(new Error("stop")) };
}

describe("the sessions of an agent", () => {
  it("pass input and output on, and end with the exit code", async () => {
    const { sessions, ask, programs } = host();
    const { channel, seen } = await ask();
    await channel.send("stdin", Buffer.from("hello"));
    await waitUntil("the echo arrives", () => seen.text === "hello");
    channel.sendControl({ type: "eof", stream: "stdin" });
    await sessions.settled();
    await waitUntil("the exit arrives", () => seen.closed !== "");
    expect(seen.controls).toEqual([{ type: "opened" }, { type: "exit", code: 4 }]);
    expect(programs[0]?.calls).toEqual(["end"]);
  });

  it.each(["infra", "old", "none"])(
    "refuse the container %s, and start nothing (I10)",
    async (container) => {
      const { sessions, ask, programs } = host();
      const { seen } = await ask({ container });
      await sessions.settled();
      await waitUntil("the refusal arrives", () => seen.closed !== "");
      expect(seen.controls).toMatchObject([{ type: "error", code: "session-refused" }]);
      expect(programs).toEqual([]);
    },
  );

  it("refuse kinds that the agent does not know", async () => {
    const { sessions, ask } = host();
    const { seen } = await ask({ kind: "port-forward" });
    await sessions.settled();
    await waitUntil("the refusal arrives", () => seen.closed !== "");
    expect(seen.controls).toMatchObject([{ code: "agent-too-old" }]);
  });

  it("are limited in number, and end with the agent", async () => {
    const { sessions, ask, programs, stop } = host({ sessionsMax: 1 });
    const first = await ask();
    await waitUntil("it is open", () => first.seen.controls.length === 1);
    const second = await ask();
    await waitUntil("the refusal arrives", () => second.seen.closed !== "");
    expect(second.seen.controls).toMatchObject([{ code: "too-many-sessions" }]);
    stop();
    await sessions.settled();
    expect(programs.map(({ calls }) => calls[0])).toEqual(["end"]);
  });

  it("end the program of a caller who disconnects", async () => {
    const { sessions, ask, programs } = host();
    const { channel, seen } = await ask();
    await waitUntil("it is open", () => seen.controls.length === 1);
    channel.close("bye");
    await sessions.settled();
    expect(programs[0]?.calls).toContain("end");
  });

  it("apply only the last of many sizes, and bound the signals that wait", async () => {
    const { ask, programs, stop, sessions } = host();
    const { channel, seen } = await ask({}, { tty: true });
    await waitUntil("it is open", () => seen.controls.length === 1);
    for (let cols = 1; cols <= 500; cols++) channel.sendControl({ type: "resize", cols, rows: 24 });
    for (let count = 0; count < 500; count++) channel.sendControl({ type: "signal", name: "INT" });
    const calls = () => programs[0]?.calls ?? [];
    await waitUntil("the last size is applied", () => calls().includes("500x24"));
    expect(calls().filter((call) => call !== "INT").length).toBeLessThan(20);
    expect(calls().filter((call) => call === "INT").length).toBeLessThan(100);
    stop();
    await sessions.settled();
  });
});
