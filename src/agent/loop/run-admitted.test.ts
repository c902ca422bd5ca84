import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import type { Admission } from "../../contracts/agent-protocol/agent-identity.ts";
import { syncResultSchema } from "../../contracts/agent-protocol/sync.ts";
import { silentLog } from "../../lib/log.ts";
import { defaultAgentLimits } from "../base/agent-limits.ts";
import type { AgentState } from "../ports/state-store.ts";
import { ControlPlaneError, NotAdmittedError, RefusedError } from "../ports/control-plane.ts";
import { runAdmitted } from "./run-admitted.ts";

type Answer = Admission | "unreachable" | "host-deleted" | undefined;

/** An agent process, and a control plane whose answer the test chooses. */
class Process {
  answer: Answer = "accepted";
  /** Agents that manage the host now, and all that ever did. */
  managing = 0;
  started = 0;
  accepted = 0;
  saved: AgentState | undefined;
  isDiskFull = false;
  isMachineStopping = true;
  readonly syncs: { atMs: number; isEnding: boolean }[] = [];
  readonly clock = new VirtualClock();
  readonly #stopping = new AbortController();
  readonly #refusing = new Set<(error: Error) => void>();
  readonly #startedAtMs = this.clock.nowMs();
  readonly ran: Promise<void>;

  constructor(isCopied: boolean, answer: Answer) {
    this.answer = answer;
    this.ran = runAdmitted(
      {
        createAgent: () => this.#createAgent(),
        api: {
          sync: async (_body, _signal, options) => {
            const atMs = this.clock.nowMs() - this.#startedAtMs;
            this.syncs.push({ atMs, isEnding: options?.isEnding ?? false });
            return this.#sync();
          },
          uploadStream: async () => undefined,
        },
        state: {
          load: async () => this.saved,
          save: async (state) => {
            this.saved = state;
            if (this.isDiskFull) throw new Error("no space");
          },
        },
        agentVersion: "test",
        limits: defaultAgentLimits,
        isMachineStopping: async () => this.isMachineStopping,
        isCopied,
        onAccepted: async () => void this.accepted++,
        clock: this.clock,
        random: () => 0,
        log: silentLog,
      },
      this.#stopping.signal,
    );
  }

  /** Another agent takes over: the next sync of the managing agent is refused. */
  refuse(answer: Admission): void {
    this.answer = answer;
    for (const reject of this.#refusing) reject(new NotAdmittedError(answer));
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the agent stops"));
    await this.clock.pass(10_000);
    await this.ran;
  }

  async #sync() {
    if (this.answer === "unreachable") throw new ControlPlaneError("unreachable", {});
    if (this.answer === "host-deleted")
      throw new RefusedError("deleted", { status: 410, provenCode: "host-deleted" });
    if (this.answer !== undefined && this.answer !== "accepted")
      throw new NotAdmittedError(this.answer);
    return syncResultSchema.parse({
      hostGeneration: 0,
      full: false,
      sets: [],
      streams: [],
      leaseSeconds: 45,
      serverTime: "2026-01-01T00:00:00.000Z",
      ...(this.answer === undefined ? {} : { admission: this.answer }),
    });
  }

  #createAgent() {
    return {
      run: async (signal: AbortSignal) => {
        this.started++;
        this.managing++;
        try {
          await new Promise<void>((resolve, reject) => {
            this.#refusing.add(reject);
            signal.addEventListener("abort", () => resolve());
          });
        } finally {
          this.#refusing.clear();
          this.managing--;
        }
      },
      status: () => {
        throw new Error("unused");
      },
    };
  }
}

describe("an agent process", () => {
  it("manages its host until it stops, and then reports its end", async () => {
    const process = new Process(false, "accepted");
    await process.clock.pass(60_000);
    expect(process.managing).toBe(1);
    expect(process.syncs).toEqual([]);
    await process.stop();
    expect(process.syncs).toMatchObject([{ isEnding: true }]);
  });

  it("reports no end to the API while its machine continues, because its containers run", async () => {
    const process = new Process(false, "accepted");
    process.isMachineStopping = false;
    await process.clock.pass(1_000);
    await process.stop();
    expect(process.syncs).toEqual([]);
  });

  it("is idle while another one manages the host, and then manages it again", async () => {
    const process = new Process(false, "accepted");
    await process.clock.pass(1_000);
    process.refuse("newer-process");
    await process.clock.pass(300_000);
    expect(process.managing).toBe(0);
    expect(process.syncs).toHaveLength(10);
    process.answer = "unreachable";
    await process.clock.pass(300_000);
    expect(process.managing).toBe(0);
    process.answer = "accepted";
    await process.clock.pass(60_000);
    expect([process.managing, process.started]).toEqual([1, 2]);
    await process.stop();
  });

  it("reports no end while it is idle", async () => {
    const process = new Process(false, "accepted");
    await process.clock.pass(1_000);
    process.refuse("another-machine");
    await process.clock.pass(1_000);
    await process.stop();
    expect(process.syncs).toEqual([]);
  });

  it("asks each second while the previous boot of its machine may still run", async () => {
    const process = new Process(false, "accepted");
    await process.clock.pass(1);
    process.refuse("wait");
    await process.clock.pass(3_500);
    expect(process.syncs).toHaveLength(3);
    process.answer = "accepted";
    await process.clock.pass(1_000);
    expect(process.managing).toBe(1);
    await process.stop();
  });
});

describe("an agent with the state of another machine", () => {
  it.each<Answer>(["another-machine", "unreachable", undefined])(
    "manages nothing while the API answers %s",
    async (answer) => {
      const process = new Process(true, answer);
      await process.clock.pass(3_600_000);
      expect(process.started).toBe(0);
      expect(process.syncs[0]?.atMs).toBe(0);
      expect(process.syncs.length).toBeGreaterThan(10);
      await process.stop();
    },
  );

  it.each([false, true])(
    "stops its sets after an operator deleted the host, with a full disk: %s",
    async (isDiskFull) => {
      const process = new Process(true, "another-machine");
      process.isDiskFull = isDiskFull;
      await process.clock.pass(120_000);
      process.answer = "host-deleted";
      await process.clock.pass(30_000);
      expect(process.started).toBe(0);
      await process.clock.pass(240_000);
      // An agent with this state stops all sets, and starts none.
      expect([process.managing, process.saved?.isHostDeleted]).toEqual([1, true]);
      expect(process.accepted).toBe(0);
      await process.stop();
    },
  );

  it("stops no set after a single answer, or when others follow", async () => {
    const process = new Process(true, "host-deleted");
    for (let round = 0; round < 20; round++) {
      process.answer = round % 2 === 0 ? "another-machine" : "host-deleted";
      await process.clock.pass(40_000);
    }
    expect([process.started, process.saved]).toEqual([0, undefined]);
    await process.stop();
  });

  it("manages the host once the API accepts its machine", async () => {
    const process = new Process(true, "accepted");
    await process.clock.pass(1_000);
    expect([process.managing, process.accepted]).toEqual([1, 1]);
    await process.stop();
  });
});
