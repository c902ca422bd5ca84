import { describe, expect, it } from "vitest";
import type { AgentIdentity } from "../../contracts/agent-protocol/agent-identity.ts";
import type { AgentRecord } from "../../db/schema/agent-record.ts";
import { CLAIM_MS, decideAdmission, isSettled } from "./decide-admission.ts";

type Agent = AgentIdentity & { isEnding: boolean };

/** A host whose agents sync at times that the test sets. */
class Host {
  record: AgentRecord | null = null;
  nowMs = 1_000_000;
  isLeaseExpired = false;
  reported: string[] = [];

  sync(agent: Agent): string {
    if (isSettled(this.record, agent)) return "accepted";
    const decision = decideAdmission(this.record, agent, this);
    this.record = decision.record ?? this.record;
    if (decision.newDuplicate) this.reported.push(decision.newDuplicate);
    return decision.admission;
  }
}

const first: Agent = {
  machineId: "m1",
  bootId: "b1",
  processId: "p1",
  startedMs: 100,
  isEnding: false,
};
const later: Agent = { ...first, processId: "p2", startedMs: 200 };
const rebooted: Agent = { ...first, bootId: "b2", processId: "p3", startedMs: 50 };

describe("another machine", () => {
  const copy: Agent = { ...first, machineId: "m2", bootId: "b9", processId: "p9" };

  it("is refused and reported once, whatever happened to the first one", () => {
    const host = new Host();
    expect(host.sync(first)).toBe("accepted");
    for (let round = 0; round < 100; round++) {
      host.nowMs += 30_000;
      host.isLeaseExpired = round > 10;
      expect(host.sync(copy)).toBe("another-machine");
    }
    host.sync({ ...first, isEnding: true });
    expect(host.sync(copy)).toBe("another-machine");
    expect(host.reported).toEqual(["another-machine"]);
    expect(host.sync(later)).toBe("accepted");
  });

  it("is reported again after a long silence", () => {
    const host = new Host();
    host.sync(first);
    host.sync(copy);
    host.nowMs += 3_600_000;
    host.sync(copy);
    expect(host.reported).toEqual(["another-machine", "another-machine"]);
  });

  it("is not known without a machine id, which a later sync of the machine adds", () => {
    const host = new Host();
    expect(host.sync({ ...first, machineId: undefined })).toBe("accepted");
    expect(host.sync(first)).toBe("accepted");
    expect(host.sync({ ...first, machineId: undefined })).toBe("accepted");
    expect(host.sync(copy)).toBe("another-machine");
  });
});

describe("two processes on one boot", () => {
  it("are ordered by their start, in whatever order they sync", () => {
    const host = new Host();
    expect(host.sync(later)).toBe("accepted");
    expect(host.sync(first)).toBe("newer-process");
    expect(host.sync(later)).toBe("accepted");
    const newest = { ...later, processId: "p0", startedMs: 300 };
    expect(host.sync(newest)).toBe("accepted");
    expect(host.sync(later)).toBe("newer-process");
  });

  it("are reported only if the older one continues", () => {
    const host = new Host();
    host.sync(first);
    host.sync(later);
    host.sync(first); // its last sync was late
    expect(host.reported).toEqual([]);
    host.nowMs += 30_000;
    host.sync(first);
    expect(host.reported).toEqual(["newer-process"]);
  });

  it("leave the host to the older one when the newer one ends, or is silent for a lease", () => {
    const host = new Host();
    host.sync(first);
    host.sync(later);
    expect(host.sync({ ...later, isEnding: true })).toBe("accepted");
    expect(host.sync(first)).toBe("accepted");
    host.sync(later);
    host.isLeaseExpired = true;
    expect(host.sync(first)).toBe("accepted");
  });
});

describe("a new boot", () => {
  it("immediately follows an agent that ended in order", () => {
    const host = new Host();
    host.sync(first);
    host.sync({ ...first, isEnding: true });
    expect(host.sync(first)).toBe("accepted"); // a late sync
    expect(host.sync(rebooted)).toBe("accepted");
    expect(host.sync(rebooted)).toBe("accepted");
  });

  it("follows a crashed machine after a short wait, or when the lease has expired", () => {
    const crashed = new Host();
    crashed.sync(first);
    expect(crashed.sync(rebooted)).toBe("wait");
    crashed.nowMs += CLAIM_MS - 1;
    expect(crashed.sync(rebooted)).toBe("wait");
    crashed.nowMs += 1;
    expect(crashed.sync(rebooted)).toBe("accepted");
    // The previous boot was not dead, but cut off.
    expect(crashed.sync(first)).toBe("another-boot");
    expect(crashed.reported).toEqual(["another-boot"]);

    const silent = new Host();
    silent.sync(first);
    silent.isLeaseExpired = true;
    expect(silent.sync(rebooted)).toBe("accepted");
  });

  it("is a copy of the machine if the previous boot still syncs", () => {
    const host = new Host();
    host.sync(first);
    expect(host.sync(rebooted)).toBe("wait");
    host.nowMs += 500;
    expect(host.sync(first)).toBe("accepted");
    host.nowMs += CLAIM_MS;
    for (let round = 0; round < 3; round++)
      expect(host.sync({ ...rebooted, processId: `p${round}` })).toBe("another-boot");
    expect(host.reported).toEqual(["another-boot"]);
    expect(host.sync(first)).toBe("accepted");
  });

  it("does not take the claim of another copy", () => {
    const host = new Host();
    host.sync(first);
    host.sync(rebooted);
    const copy = { ...rebooted, bootId: "b3" };
    expect(host.sync(copy)).toBe("wait");
    host.nowMs += CLAIM_MS;
    expect(host.sync(copy)).toBe("wait");
    expect(host.sync(rebooted)).toBe("accepted");
  });

  it("has a bounded record, however often a copy restarts", () => {
    const host = new Host();
    host.sync(first);
    for (let boot = 0; boot < 100; boot++) {
      host.sync({ ...rebooted, bootId: `copy-${boot}` });
      host.nowMs += 1_000;
      host.sync(first);
    }
    expect(host.record?.otherBoots).toHaveLength(16);
  });
});
