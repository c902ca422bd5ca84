import type { DriverStatus } from "../../contracts/network-driver/driver-status.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { isAborted } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { truncate } from "../../lib/text/truncate.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { NetworkDriverPort } from "../ports/network-driver-port.ts";

const DETAIL_CHARS_MAX = 500;

export interface NetworkDriverHealthOptions {
  port: NetworkDriverPort;
  clock: Clock;
  log: Log;
  limits: Pick<AgentLimits, "driverIntervalMs" | "driverRetryMs" | "driverGraceMs">;
  /** Whether the host has a set with an attachment. */
  hasAttachedSets: () => boolean;
  /**
   * Finds the address to which other hosts send VXLAN packets. Null without one, undefined if that
   * is unknown now.
   */
  findTunnelAddress: () => Promise<string | null | undefined>;
  /** Called when the host gains or loses its networks, and when its tunnel address changes. */
  onChange: () => void;
}

/**
 * Checks periodically whether the network driver is ready. If it is not ready for `driverGraceMs`,
 * the host loses the feature `networks`. A shorter failure, such as a restart, changes nothing.
 * Sets on the host stay (I17).
 */
export class NetworkDriverHealth {
  readonly #options: NetworkDriverHealthOptions;
  #isKnown = false;
  #hasNetworks = false;
  #publishesPorts = false;
  #knowsGateways = true;
  #failure: { sinceMs: number; detail: string } | undefined;
  #hasNames = false;
  #namesFailure: { sinceMs: number; detail: string } | undefined;
  #takenPorts: readonly string[] = [];
  #connectionsReason: string | null = null;
  #hasAnswered = false;
  #isAnswering = false;
  #tunnelAddress: string | null | undefined;
  #newTunnelAddress: string | null | undefined;

  constructor(options: NetworkDriverHealthOptions) {
    this.#options = options;
  }

  /**
   * True once the driver was ready, or has failed for `driverGraceMs`. On a host without attached
   * sets whose driver has never answered, one failure suffices.
   */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** Whether this is a networked host: it can connect sets to networks. */
  get hasNetworks(): boolean {
    return this.#hasNetworks;
  }

  /** Whether this is a networked host that also has a name server for its sets. */
  get hasNames(): boolean {
    return this.#hasNetworks && this.#hasNames;
  }

  /** Whether a networked host can publish ports of sets. */
  get publishesPorts(): boolean {
    return this.#publishesPorts;
  }

  /**
   * False if the last answer was that of a driver that does not know gateways. It depends on the
   * build of the driver alone, so a driver that does not answer changes nothing.
   */
  get knowsGateways(): boolean {
    return this.#knowsGateways;
  }

  /** Whether the driver answered the last call, ready or not. */
  get isAnswering(): boolean {
    return this.#isAnswering;
  }

  /**
   * The tunnel address of this host. Undefined until it is known. While it cannot be
   * found, the last one stays, because connections between hosts depend on it.
   */
  get tunnelAddress(): string | null | undefined {
    return this.#tunnelAddress;
  }

  /**
   * Why a host with a network driver is not networked. Or why its sets resolve no names, its
   * published ports lead elsewhere, or its connections do not end. A host without a driver has no
   * reason.
   */
  get reason(): Reason | undefined {
    const { hasAttachedSets } = this.#options;
    if (this.#hasNetworks) return this.#namesReason ?? this.#portsReason ?? this.#openReason;
    if (!this.#isKnown || !this.#failure) return undefined;
    if (!this.#hasAnswered && !hasAttachedSets()) return undefined;
    const text = `The host takes no new sets with networks, because its network driver is not ready: ${this.#failure.detail}`;
    return { code: "network-driver-failed", text };
  }

  /** New sets start in any case: those that run have the same problem, and it ends for all. */
  get #namesReason(): Reason | undefined {
    const { clock, limits } = this.#options;
    const failure = this.#namesFailure;
    if (!failure || clock.nowMs() - failure.sinceMs < limits.driverGraceMs) return undefined;
    const text = `Sets with networks may resolve no names, because the name server of the host fails: ${failure.detail}`;
    return { code: "names-failed", text };
  }

  get #portsReason(): Reason | undefined {
    if (this.#takenPorts.length === 0) return undefined;
    const ports = truncate(this.#takenPorts.join(", "), DETAIL_CHARS_MAX);
    const text = `Another program listens at the published ports ${ports}, so clients do not reach the sets. Find it with \`ss -lntup\`, and stop it.`;
    return { code: "published-ports-blocked", text };
  }

  get #openReason(): Reason | undefined {
    if (this.#connectionsReason === null) return undefined;
    const detail = truncate(this.#connectionsReason, DETAIL_CHARS_MAX);
    const text = `Connections that must end are still open on the host, and the network driver tries again every few seconds: ${detail}`;
    return { code: "connections-not-ended", text };
  }

  /** Runs until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, limits } = this.#options;
    while (!isAborted(signal)) {
      await this.#ask(signal);
      const isFailing = this.#failure !== undefined && !(this.#isKnown && !this.#hasNetworks);
      await sleep(clock, isFailing ? limits.driverRetryMs : limits.driverIntervalMs, signal);
    }
  }

  async #ask(signal: AbortSignal): Promise<void> {
    const { clock, limits } = this.#options;
    const answer = await this.#readStatus(signal);
    if (isAborted(signal)) return;
    if (answer.isAnswering) await this.#noteTunnelAddress();
    this.#isAnswering = answer.isAnswering;
    const { detail } = answer;
    if (detail === undefined) {
      this.#failure = undefined;
      this.#become(true);
      return;
    }
    const sinceMs = this.#failure?.sinceMs ?? clock.nowMs();
    this.#failure = { sinceMs, detail: truncate(detail, DETAIL_CHARS_MAX) };
    // Such a host probably has no driver, and must not delay the report of its features.
    const hasProbablyNoDriver = !this.#hasAnswered && !this.#options.hasAttachedSets();
    if (hasProbablyNoDriver || clock.nowMs() - sinceMs >= limits.driverGraceMs) this.#become(false);
  }

  /** `detail` says why the driver is not ready. */
  async #readStatus(
    signal: AbortSignal,
  ): Promise<{ isAnswering: boolean; detail: string | undefined }> {
    try {
      const status = await this.#options.port.status(signal);
      const { isReady, reason, names } = status;
      this.#publishesPorts = status.publishesPorts;
      this.#knowsGateways = status.knowsGateways;
      this.#takenPorts = status.takenPorts;
      this.#connectionsReason = status.connectionsReason;
      this.#hasAnswered = true;
      this.#noteNames(names);
      return { isAnswering: true, detail: isReady ? undefined : (reason ?? "it does not say why") };
    } catch (error) {
      return { isAnswering: false, detail: error instanceof Error ? error.message : String(error) };
    }
  }

  #noteNames({ state, reason }: DriverStatus["names"]): void {
    const { clock, onChange } = this.#options;
    const sinceMs = this.#namesFailure?.sinceMs ?? clock.nowMs();
    const detail = truncate(reason ?? "it does not say why", DETAIL_CHARS_MAX);
    this.#namesFailure = state === "down" ? { sinceMs, detail } : undefined;
    const hasNames = state !== "off";
    if (hasNames === this.#hasNames) return;
    this.#hasNames = hasNames;
    if (this.#hasNetworks) onChange();
  }

  async #noteTunnelAddress(): Promise<void> {
    const found = await this.#options.findTunnelAddress();
    if (found === undefined || found === this.#tunnelAddress) {
      this.#newTunnelAddress = undefined;
      return;
    }
    // The name of the API may have addresses behind several interfaces.
    const isConfirmed = this.#tunnelAddress === undefined || found === this.#newTunnelAddress;
    this.#newTunnelAddress = found;
    if (!isConfirmed) return;
    this.#tunnelAddress = found;
    if (this.#isKnown) this.#options.onChange();
  }

  #become(hasNetworks: boolean): void {
    const { log, onChange } = this.#options;
    if (this.#isKnown && hasNetworks === this.#hasNetworks) return;
    this.#isKnown = true;
    this.#hasNetworks = hasNetworks;
    const { reason } = this;
    if (reason) log.error({ reason: reason.text }, "the network driver is not ready");
    else if (hasNetworks) log.info({}, "the network driver is ready");
    onChange();
  }
}
