import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { linkAbort, onAbort, runAbortable, untilAborted } from "./abort.ts";

const never = () => new Promise<never>(() => undefined);
const listenersOf = (signal: AbortSignal) => getEventListeners(signal, "abort").length;

describe("work that can be aborted", () => {
  it("leaves no listener on its signal, however it ends", async () => {
    const { signal } = new AbortController();
    expect(await runAbortable({ signal }, async () => "done")).toBe("done");
    const failed = runAbortable({ signal }, () => Promise.reject(new Error("no")));
    await expect(failed).rejects.toThrow("no");
    const deadline = { timeoutMs: 1, onLate: () => "late" };
    expect(await runAbortable<string>({ signal, deadline }, never)).toBe("late");
    linkAbort(signal).unlink();
    expect(listenersOf(signal)).toBe(0);
  });

  it("ends at an abort with the reason, although the work ignores its signal", async () => {
    const outer = new AbortController();
    let inner: AbortSignal | undefined;
    const ended = runAbortable({ signal: outer.signal }, (signal) => {
      inner = signal;
      return never();
    });
    outer.abort(new Error("the agent stops"));
    await expect(ended).rejects.toThrow("the agent stops");
    expect(inner?.aborted).toBe(true);
    await expect(runAbortable(outer, async () => "never begins")).rejects.toThrow("stops");
  });

  it("ends at its deadline with the error of the caller, and aborts its signal", async () => {
    let inner: AbortSignal | undefined;
    const onLate = (): never => {
      throw new Error("late");
    };
    const ended = runAbortable({ deadline: { timeoutMs: 1, onLate } }, (signal) => {
      inner = signal;
      return never();
    });
    await expect(ended).rejects.toThrow("late");
    expect(inner?.aborted).toBe(true);
  });

  it("rejects if the work throws before its first wait", async () => {
    const thrown = runAbortable({}, () => {
      throw new Error("at once");
    });
    await expect(thrown).rejects.toThrow("at once");
  });
});

describe("a listener of an abort", () => {
  it("is called immediately for an aborted signal, and never after its removal", async () => {
    const calls: string[] = [];
    onAbort(AbortSignal.abort(), () => calls.push("aborted before"));
    const controller = new AbortController();
    const unlisten = onAbort(controller.signal, () => calls.push("removed"));
    unlisten();
    controller.abort();
    await untilAborted(controller.signal);
    expect(calls).toEqual(["aborted before"]);
  });
});
