import type { DriverStatus } from "../contracts/network-driver/driver-status.ts";
import type { LoadedNetworkState } from "../contracts/network-driver/network-state.ts";
import { runAbortable, untilAborted } from "../lib/async/abort.ts";
import { createConcurrencyLimit } from "../lib/async/concurrency-limit.ts";
import { KeyedLock } from "../lib/async/keyed-lock.ts";
import type { Log } from "../lib/log.ts";
import { formatCount } from "../lib/text/format-count.ts";
import {
  type AcceptedState,
  answerControlCall,
  type ControlAnswer,
} from "./control/answer-control-call.ts";
import { type AnswerDockerCall, createDockerAnswers } from "./docker/answer-docker-call.ts";
import { defineCall } from "./docker/docker-call.ts";
import { ipamCalls } from "./docker/ipam-calls.ts";
import { createNetworkCalls } from "./docker/network-calls.ts";
import { converge } from "./endpoints/converge.ts";
import type { DriverContext } from "./endpoints/driver-context.ts";
import { EndpointRecords } from "./endpoints/endpoint-records.ts";
import { StoredNetworkState } from "./endpoints/stored-network-state.ts";
import { SwitchFlows } from "./endpoints/switch-flows.ts";
import { uplinkAddress } from "./flows/compile-flows.ts";
import type { Datapath } from "./flows/flow.ts";
import { HostNames } from "./names/host-names.ts";
import type { NamedNetwork } from "./names/compile-names.ts";
import type { DriverRecordsContent } from "./model/driver-records.ts";
import { createLinkNames } from "./model/link-names.ts";
import type { FilterWatch } from "./ports/filter-watch.ts";
import type { LinkPort } from "./ports/link-port.ts";
import { type NameServer, NameServerError } from "./ports/name-server.ts";
import type { LoadedState, StateStore } from "./ports/state-store.ts";
import type { SwitchPort } from "./ports/switch-port.ts";
import type { Uplink } from "./ports/uplink.ts";
import type { TunnelGuard } from "./ports/tunnel-guard.ts";

/** Each change runs two programs, and more at a time only delay each other. */
const CHANGES_MAX = 8;
const CORRECTIONS_MAX = 4;
/** The agent waits this long for the flows of a network state and the end of connections. */
const APPLY_TIMEOUT_MS = 10_000;

export interface NetworkDriverOptions {
  links: LinkPort;
  switchPort: SwitchPort;
  tunnelGuard: TunnelGuard;
  /** Without it, sets reach no external address. */
  uplink?: Uplink | undefined;
  /** Without it, a changed packet filter is corrected by the next periodic convergence. */
  filterWatch?: FilterWatch | undefined;
  /** Without it or without an uplink, sets have no names. */
  nameServer?: NameServer | undefined;
  /** The datapath of the switch, which decides how the flows treat neighbor discovery. */
  datapath: Datapath;
  recordStore: StateStore<DriverRecordsContent>;
  networkStateStore: StateStore<LoadedNetworkState>;
  /** Prefix of the names of interfaces: see createLinkNames. */
  linkPrefix: string;
  /** The MTU of networks whose creator names none. */
  mtu: number;
  version: string;
  /** Monotonic. */
  nowMs: () => number;
  log: Log;
}

/** A reload of ten thousand names takes half a second. */
const NAMES_TIMEOUT_MS = 10_000;

/** The problem of the last convergence, and that of the last check of the flows. Empty if none. */
interface Problems {
  records: string;
  switch: string;
}

/**
 * Loads the driver's state. It answers Docker's calls from that state, the kernel and the switch
 * alone, so agent and control plane may be down. The first convergence rebuilds missing or invalid
 * records from the switch, and later calls of Docker complete them.
 */
export async function createNetworkDriver(options: NetworkDriverOptions): Promise<NetworkDriver> {
  const { log, switchPort, links, recordStore, networkStateStore, nowMs } = options;
  const stored = await recordStore.load();
  reportLoaded(stored, "records", log);
  const storedNetworks = await networkStateStore.load();
  reportLoaded(storedNetworks, "network state", log);
  const names = createLinkNames(options.linkPrefix);
  const content = "value" in stored ? stored.value : { networks: {}, endpoints: {}, zones: {} };
  const records = new EndpointRecords(recordStore, content, { names, nowMs });
  const state = new StoredNetworkState(networkStateStore, storedNetworks);
  const flows = new SwitchFlows({
    records,
    names,
    switchPort,
    datapath: options.datapath,
    networkState: state,
    uplink: options.uplink,
    hasAllRecords: stored.kind === "valid",
    log,
  });
  const limit = createConcurrencyLimit(CHANGES_MAX);
  const correctionLimit = createConcurrencyLimit(CORRECTIONS_MAX);
  const lock = new KeyedLock();
  return new NetworkDriver(
    {
      records,
      names,
      links,
      switchPort,
      flows,
      uplink: options.uplink,
      mtu: options.mtu,
      lock,
      detached: new Set(),
      joined: new Set(),
      limit,
      correctionLimit,
      log,
    },
    state,
    options,
  );
}

export class NetworkDriver {
  readonly #ctx: DriverContext;
  readonly #state: StoredNetworkState;
  readonly #tunnelGuard: TunnelGuard;
  readonly #filterWatch: FilterWatch | undefined;
  readonly #version: string;
  readonly #names: HostNames;
  readonly #problems: Problems = { records: "The first convergence has not ended.", switch: "" };
  #unknownInterfaces: string[] = [];
  #wantsConvergence = false;
  readonly answerDocker: AnswerDockerCall;

  constructor(
    ctx: DriverContext,
    state: StoredNetworkState,
    {
      mtu,
      version,
      tunnelGuard,
      nameServer,
      filterWatch,
    }: Pick<NetworkDriverOptions, "mtu" | "version" | "tunnelGuard" | "nameServer" | "filterWatch">,
  ) {
    this.#ctx = ctx;
    this.#state = state;
    this.#version = version;
    this.#tunnelGuard = tunnelGuard;
    this.#filterWatch = filterWatch;
    const { uplink, flows } = ctx;
    this.#names = new HostNames(
      uplink && nameServer,
      createNetworkList(state, flows, uplink?.firstAddress),
    );
    const onLostCall = (): void => {
      this.#wantsConvergence = true;
    };
    this.answerDocker = createDockerAnswers(
      {
        "Plugin.Activate": defineCall(undefined, async () => ({
          Implements: ["NetworkDriver", "IpamDriver"],
        })),
        ...ipamCalls,
        ...createNetworkCalls(ctx, { mtu }),
      },
      { log: ctx.log, onLostCall },
    );
  }

  async answerControl(request: {
    method: string;
    path: string;
    body: string;
  }): Promise<ControlAnswer> {
    return answerControlCall(
      {
        status: () => this.status(),
        acceptNetworkState: (state) => this.#acceptNetworkState(state),
      },
      request,
    );
  }

  /**
   * Brings records, links and ports into agreement, and applies the flows if they may differ. The
   * caller repeats it, without overlap. It tries everything, and then rejects with the first error
   * of the switch or the store. The status names that error.
   */
  async converge(signal: AbortSignal): Promise<void> {
    await this.#noteProblem("records", async () => {
      this.#wantsConvergence = false;
      const { records, flows } = this.#ctx;
      // Before the uplink, through which sets could send packets to the tunnels of other hosts.
      const [guarded] = await Promise.allSettled([this.#guardTunnel(signal)]);
      const { unknownInterfaces, errors, hasOmitted } = await converge(this.#ctx, signal);
      this.#unknownInterfaces = unknownInterfaces;
      this.#wantsConvergence ||= hasOmitted;
      const results = await Promise.allSettled([
        flows.isOutdated ? flows.apply(signal) : undefined,
        records.saveChanges(),
        this.#state.save(),
      ]);
      for (const result of [...results, guarded])
        if (result.status === "rejected") errors.push(result.reason);
      if (errors.length > 0) throw errors[0];
      await this.#filterWatch?.remember(signal);
    });
  }

  /**
   * Another program may have flushed the packet filter. Then the next convergence runs immediately.
   */
  async checkFilter(signal: AbortSignal): Promise<void> {
    if ((await this.#filterWatch?.isUnchanged(signal)) === false) this.#wantsConvergence = true;
  }

  /** Applies the flows again if the switch has lost them, or if they may be outdated. */
  async checkFlows(signal: AbortSignal): Promise<void> {
    const { flows, switchPort } = this.#ctx;
    await this.#noteProblem("switch", async () => {
      const count = await switchPort.countFlows(signal);
      if (count !== flows.appliedFlowCount) flows.markOutdated();
      if (flows.isOutdated) await flows.apply(signal);
    });
  }

  /** Ends connections that must not continue: see SwitchFlows. The caller repeats it. */
  async endConnections(signal: AbortSignal): Promise<void> {
    await this.#ctx.flows.endConnections(signal);
  }

  /**
   * Ensures that the name server answers the names of the current networks. While it rejects, sets
   * have the last names or none, and all else works.
   */
  async checkNames(signal: AbortSignal, timeoutMs = NAMES_TIMEOUT_MS): Promise<void> {
    const onLate = (): never => {
      throw new NameServerError(`The names were not written within ${timeoutMs} ms.`);
    };
    const deadline = { timeoutMs, onLate };
    await runAbortable({ signal, deadline }, (late) => this.#names.apply(late));
  }

  /**
   * True if records, links and ports probably differ, so the next convergence should run
   * immediately.
   */
  get wantsConvergence(): boolean {
    return this.#wantsConvergence;
  }

  status(): DriverStatus {
    const { records, flows, uplink } = this.#ctx;
    const reason = this.#problems.switch || this.#problems.records || this.#describeUnenforced();
    return {
      version: this.#version,
      isReady: reason === "",
      reason: reason === "" ? null : reason,
      networks: records.networks.size,
      endpoints: records.endpoints.size,
      flows: flows.appliedFlowCount,
      networkStateVersion: this.#state.current?.version ?? null,
      names: this.#names.status,
      publishesPorts: uplink !== undefined,
      knowsGateways: true,
      takenPorts: (uplink?.takenPorts ?? []).map(
        ({ protocol, hostPort }) => `${hostPort}/${protocol}`,
      ),
      connectionsReason: describeError(flows.findLastingError()),
      unknownInterfaces: this.#unknownInterfaces,
    };
  }

  /** While the network state is unreadable, it changes nothing: the earlier filter stays. */
  async #guardTunnel(signal: AbortSignal): Promise<void> {
    if (this.#state.isUnreadable) return;
    await this.#tunnelGuard.ensure(this.#state.current?.tunnelAddress ?? null, signal);
  }

  #describeUnenforced(): string {
    const networks = this.#state.listUnenforced();
    if (networks.length === 0) return "";
    const [first, ...others] = networks;
    const rest = others.length === 0 ? "" : ` and ${formatCount(others.length, "other network")}`;
    return `A later release has stored rules for ${first}${rest} that this release does not know. It permits no new connection there until the host's agent sends its network state.`;
  }

  async #acceptNetworkState(state: LoadedNetworkState): Promise<AcceptedState> {
    const newerVersion = this.#state.accept(state);
    if (newerVersion !== undefined) return { newerVersion };
    await this.#guardTunnel(AbortSignal.timeout(APPLY_TIMEOUT_MS)).catch(() => {
      this.#wantsConvergence = true; // it reports the error
    });
    this.#ctx.flows.markOutdated();
    const { log } = this.#ctx;
    const save = async (): Promise<boolean> => {
      try {
        await this.#state.save();
        return true;
      } catch (error) {
        log.warn({ err: error }, "cannot store a new network state");
        return false;
      }
    };
    const isStored = save();
    const deadline = AbortSignal.timeout(APPLY_TIMEOUT_MS);
    const isApplied = await applyFlows(this.#ctx, deadline);
    // Not awaited: the agent waits for flows, and the next check repeats a failure.
    void this.checkNames(new AbortController().signal).catch((error: unknown) => {
      log.warn({ err: error }, "cannot write the names of a new network state");
    });
    if (isApplied) await Promise.race([this.endConnections(deadline), untilAborted(deadline)]);
    // That may have completed the requests to end connections.
    return { isApplied, isStored: (await isStored) && (await save()) };
  }

  async #noteProblem(of: keyof Problems, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#problems[of] = "";
    } catch (error) {
      this.#problems[of] = describeError(error) ?? "";
      throw error;
    }
  }
}

function describeError(error: unknown): string | null {
  const text = error instanceof Error ? error.message : String(error);
  return error === undefined ? null : text;
}

/** Returns a function that lists the networks with names: see HostNames. */
function createNetworkList(
  state: StoredNetworkState,
  flows: SwitchFlows,
  firstAddress: string | undefined,
): () => NamedNetwork[] | undefined {
  let last: { of: readonly unknown[]; networks: NamedNetwork[] } | undefined;
  return () => {
    const { current } = state;
    const { conntrackZones } = flows;
    const networks = current?.networks ?? [];
    const isUnknown = networks.length > 0 && conntrackZones.size === 0;
    if (state.isUnreadable || isUnknown || firstAddress === undefined) return undefined;
    if (last?.of[0] === current && last?.of[1] === conntrackZones) return last.networks;
    const named = networks.flatMap((network) => {
      const zone = conntrackZones.get(network.vni);
      if (zone === undefined) return [];
      return [{ ...network, clientAddress: uplinkAddress(firstAddress, zone) }];
    });
    last = { of: [current, conntrackZones], networks: named };
    return named;
  };
}

/** Returns false if the switch fails: the next convergence applies the flows. */
async function applyFlows({ flows, log }: DriverContext, signal: AbortSignal): Promise<boolean> {
  try {
    await flows.apply(signal);
    return true;
  } catch (error) {
    log.warn({ err: error }, "cannot apply the flows of a new network state");
    return false;
  }
}

function reportLoaded(loaded: LoadedState<unknown>, what: string, log: Log): void {
  if (loaded.kind === "partial") {
    const { reason, copiedTo } = loaded;
    log.error({ what, reason, copiedTo }, "left out invalid entries of a state file");
  }
  if (loaded.kind !== "invalid") return;
  const { reason, movedTo } = loaded;
  log.error({ what, reason, movedTo }, "set aside an invalid state file");
}
