import { describe, expect, it } from "vitest";
import { serviceStateOf } from "../../../test/support/network/host-network.ts";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { AddressReports } from "./address-reports.ts";
import type { AgentCapabilities } from "../../contracts/agent-protocol/agent-capabilities.ts";
import { ownFeatures } from "../../contracts/agent-protocol/agent-features.ts";
import type { Sync, SyncResult } from "../../contracts/agent-protocol/sync.ts";
import { syncBody } from "../../contracts/agent-protocol/sync.ts";
import { newId } from "../../lib/ids.ts";
import { silentLog } from "../../lib/log.ts";
import { ControlPlaneError, RefusedError, type SyncOptions } from "../ports/control-plane.ts";
import { CapabilityReports } from "./capability-reports.ts";
import { sendSync } from "./send-sync.ts";

const amounts = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1, rootfsBytes: 1 };
const usage: NonNullable<Sync["usage"]> = {
  used: amounts,
  allocatable: amounts,
  reclaimableVolumeBytes: 0,
  trashedVolumeBytes: 0,
  volumeReason: null,
  disk: { imageBytes: 1, containerBytes: 1 },
  setMemoryBytes: {},
};
const report: Sync["observed"][number] = {
  setId: newId("set"),
  generation: 1,
  state: "running",
  ready: true,
  reason: null,
  gaveUp: false,
  address: null,
  sized: true,
  sizeRefused: false,
  containers: [],
};
const body: Sync = {
  protocol: 1,
  agentVersion: "test",
  acceptedGeneration: 7,
  full: false,
  waitMs: 20_000,
  observed: [report],
  docker: { state: "ok", detail: "" },
  usage,
  images: null,
  volumes: null,
};
const answer = { hostGeneration: 8 } as SyncResult;
const noAddresses = new AddressReports({
  listSets: () => [],
  onRequested: () => undefined,
  clock: new VirtualClock(),
});

const noPrefetches = { take: () => undefined, noteLost: () => undefined };

async function send(
  changed: Partial<Sync>,
  failure?: (sent: Sync, call: number) => Error | undefined,
) {
  const sent: Sync[] = [];
  const bareAnswers: unknown[] = [];
  const counts = { omittedParts: 0 };
  const options = {
    api: {
      sync: async (one: Sync) => {
        sent.push(one);
        const error = failure?.(one, sent.length);
        if (error) throw error;
        return answer;
      },
    },
    log: silentLog,
    counts,
    addresses: noAddresses,
    prefetches: noPrefetches,
    capabilities: new CapabilityReports({
      setsMax: () => null,
      otherHostVolumes: () => [],
      hasNetworks: () => false,
      hasNames: () => false,
      tunnelAddress: () => null,
      hostAddress: () => null,
      publishesPorts: () => false,
      knowsGateways: () => true,
      tested: () => ({ docker: null, selfTest: null }),
      onRequested: () => undefined,
    }),
    onBareAnswer: async (one: unknown) => bareAnswers.push(one),
  };
  const { signal } = new AbortController();
  const outcome = await sendSync(options, { ...body, ...changed }, signal).catch(
    (error: unknown) => error,
  );
  return { sent, bareAnswers, omitted: counts.omittedParts, outcome };
}

describe("a sync", () => {
  it("is sent as it is if it is valid", async () => {
    expect(await send({})).toMatchObject({ sent: [body], omitted: 0, outcome: answer });
  });

  const absent = undefined as unknown as number;
  const long = "x".repeat(3_000);
  it.each<[string, Partial<Sync>, Partial<Sync>]>([
    [
      "a size of the disk that Docker does not report",
      { usage: { ...usage, disk: { imageBytes: absent, containerBytes: 1 } } },
      { usage: { ...usage, disk: null } },
    ],
    [
      "an invalid detail of the usage",
      { usage: { ...usage, volumeReason: { code: "x", text: long } } },
      { usage: { ...usage, disk: null } },
    ],
    [
      "a measurement that is not a number",
      { usage: { ...usage, used: { ...amounts, cpuMillis: Number.NaN } } },
      { usage: null },
    ],
    [
      "a long error of Docker",
      { docker: { state: "unreachable", detail: long } },
      { docker: { state: "unreachable", detail: "" } },
    ],
    [
      "a set with an invalid container",
      { observed: [{ ...report, containers: [{ name: long }] as never }, report] },
      { observed: [report, report] },
    ],
    [
      "a set with a long reason",
      { observed: [{ ...report, reason: { code: "x", text: long } }] },
      { observed: [report] },
    ],
    [
      "a set without a valid state",
      { observed: [{ ...report, state: "asleep" as never }, report] },
      { observed: [report] },
    ],
  ])("omits %s, and sends the rest", async (_name, changed, expected) => {
    const { sent, omitted } = await send(changed);
    expect(sent).toEqual([{ ...body, ...expected }]);
    expect(syncBody.safeParse(sent[0]).success).toBe(true);
    expect(omitted).toBe(1);
  });

  it("shortens the version of the agent", async () => {
    const { sent } = await send({ agentVersion: "v".repeat(100) });
    expect(syncBody.safeParse(sent[0]).success).toBe(true);
  });

  it.each([400, 413, 422])("is followed by a bare sync after %i, and fails", async (status) => {
    const refused = new ControlPlaneError("refused", { status });
    const { sent, bareAnswers, outcome } = await send({}, (one) =>
      one.usage ? refused : undefined,
    );
    const { protocol, agentVersion, acceptedGeneration, full } = body;
    const nothing = { observed: [], docker: null, usage: null, images: null, volumes: null };
    expect(sent[1]).toEqual({
      protocol,
      agentVersion,
      acceptedGeneration,
      full,
      waitMs: 0,
      ...nothing,
    });
    expect(bareAnswers).toEqual([answer]);
    expect(outcome).toBe(refused);
  });

  it("fails with the first error if the bare sync fails too, after two calls", async () => {
    const errors = [422, 500].map((status) => new ControlPlaneError(`${status}`, { status }));
    const { sent, outcome } = await send({}, (_one, call) => errors[call - 1]);
    expect(sent).toHaveLength(2);
    expect(outcome).toBe(errors[0]);
  });

  it.each([
    ["a busy API", new ControlPlaneError("busy", { status: 429 })],
    ["a fault of the API", new ControlPlaneError("fault", { status: 500 })],
    ["an unreachable API", new ControlPlaneError("unreachable", {})],
    ["a refused host", new RefusedError("refused", { status: 401, provenCode: undefined })],
  ])("is not repeated for %s", async (_name, error) => {
    const { sent, outcome } = await send({}, () => error);
    expect(sent).toHaveLength(1);
    expect(outcome).toBe(error);
  });
});

describe("the capabilities of an agent", () => {
  /** Sends syncs to an API that answers each with the next of these. */
  async function sendEach(answers: (Partial<SyncResult> | Error)[], changes: object[] = []) {
    const sent: { capabilities: unknown; version: string | undefined }[] = [];
    let tested: Parameters<typeof describeTest>[0] = { docker: null, selfTest: null };
    let wakes = 0;
    const capabilities = new CapabilityReports({
      setsMax: () => null,
      otherHostVolumes: () => [],
      hasNetworks: () => false,
      hasNames: () => false,
      tunnelAddress: () => null,
      hostAddress: () => null,
      publishesPorts: () => false,
      knowsGateways: () => true,
      tested: () => tested,
      onRequested: () => wakes++,
    });
    for (const [call, next] of answers.entries()) {
      tested = { ...tested, ...changes[call] };
      const api = {
        sync: async (one: Sync, _signal: AbortSignal, options?: SyncOptions) => {
          sent.push({ capabilities: one.capabilities, version: options?.capabilitiesVersion });
          if (next instanceof Error) throw next;
          return { ...answer, ...next };
        },
      };
      const counts = { omittedParts: 0 };
      const onBareAnswer = async () => undefined;
      const options = {
        api,
        log: silentLog,
        counts,
        capabilities,
        addresses: noAddresses,
        prefetches: noPrefetches,
        onBareAnswer,
      };
      await sendSync(options, body, new AbortController().signal).catch(() => undefined);
    }
    return { sent, wakes };
  }
  const describeTest = (one: Pick<AgentCapabilities, "docker" | "selfTest">) => one;

  it("are sent once, after the API has requested them, and their version always", async () => {
    const { sent, wakes } = await sendEach([{ sendCapabilities: true }, {}, {}]);
    expect(sent.map((one) => one.capabilities !== undefined)).toEqual([false, true, false]);
    expect(sent[1]?.capabilities).toEqual({
      features: [...ownFeatures],
      docker: null,
      setsMax: null,
      selfTest: null,
      otherHostVolumes: [],
      tunnelAddress: null,
      hostAddress: null,
    });
    expect(new Set(sent.map(({ version }) => version)).size).toBe(1);
    expect(wakes).toBe(1);
  });

  it("have another version after a change", async () => {
    const { sent } = await sendEach(
      [{}, {}],
      [{}, { selfTest: { state: "passed", reason: null } }],
    );
    expect(sent[0]?.version).not.toBe(sent[1]?.version);
  });

  it("are not repeated after a refusal, so that an older API gets reports", async () => {
    const refused = new ControlPlaneError("refused", { status: 400 });
    const { sent } = await sendEach([{ sendCapabilities: true }, refused, {}]);
    // The refused sync is followed by a bare one.
    expect(sent.map((one) => one.capabilities !== undefined)).toEqual([false, true, false, false]);
  });
});

it("the addresses of sets and services and the host ports are sent once, after the API has requested them", async () => {
  const [setId, publishing, networkId] = [newId("set"), newId("set"), newId("net")];
  const attachment = {
    networkId,
    vni: 4_097,
    interface: "eth0",
    mac: "0a:00:0a:40:00:09",
    addresses: ["10.64.0.9/16", "fd00::9/64"],
    gateways: ["10.64.0.1", "fd00::1"],
  };
  let wakes = 0;
  const addresses = new AddressReports({
    listSets: () => [
      { setId, attachments: [attachment] },
      { setId: publishing, hostPorts: [{ protocol: "tcp", port: 80, hostPort: 20_001 }] },
      { setId: newId("set"), attachments: undefined },
    ],
    onRequested: () => wakes++,
    clock: new VirtualClock(),
  });
  const [network] = serviceStateOf(1, { [networkId]: [] }, ["10.64.1.1"]).networks;
  addresses.noteNetworks(network ? [network] : []);
  const sent: Sync["addresses"][] = [];
  const requests = [true, undefined, undefined];
  for (const sendAddresses of requests) {
    const sync = async (one: Sync) => {
      sent.push(one.addresses);
      return { ...answer, ...(sendAddresses && { sendAddresses }) };
    };
    const capabilities = {
      take: () => ({ version: "test", capabilities: undefined }),
      noteAnswer: () => undefined,
    };
    const parts = {
      counts: { omittedParts: 0 },
      prefetches: noPrefetches,
      onBareAnswer: async () => undefined,
    };
    const options = { api: { sync }, log: silentLog, capabilities, addresses, ...parts };
    await sendSync(options, body, new AbortController().signal);
  }
  const { mac } = attachment;
  const networks = [{ networkId, mac, addresses: ["10.64.0.9", "fd00::9"] }];
  const withPorts = {
    setId: publishing,
    networks: [],
    hostPorts: [{ protocol: "tcp", port: 20_001 }],
  };
  const serviceId = network?.services[0]?.serviceId;
  const ofService = { serviceId, networkId, addresses: ["10.64.1.1"] };
  expect(sent).toEqual([undefined, [{ setId, networks }, withPorts, ofService], undefined]);
  expect(wakes).toBe(1);
});

it.each([
  ["are sent again after a failed sync", new Error("no route"), 1],
  ["are not repeated after a refusal", new ControlPlaneError("refused", { status: 400 }), 0],
])("the outcomes of prefetches %s", async (_what, failure, lostCount) => {
  const prefetched = [{ reference: "menu:43", tenant: "food", state: "pulled" as const }];
  let lost = 0;
  const sent: Sync[] = [];
  const options = {
    api: {
      sync: async (one: Sync) => {
        sent.push(one);
        throw failure;
      },
    },
    log: silentLog,
    counts: { omittedParts: 0 },
    addresses: noAddresses,
    prefetches: { take: () => prefetched, noteLost: () => void lost++ },
    capabilities: {
      take: () => ({ version: "test", capabilities: undefined }),
      noteAnswer: () => undefined,
    },
    onBareAnswer: async () => undefined,
  };
  await expect(sendSync(options, body, new AbortController().signal)).rejects.toThrow();
  expect(sent[0]?.prefetched).toEqual(prefetched);
  expect(lost).toBe(lostCount);
});
