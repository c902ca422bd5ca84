import { createHash } from "node:crypto";
import {
  type AgentCapabilities,
  UNKNOWN_CAPABILITIES,
} from "../../contracts/agent-protocol/agent-capabilities.ts";
import {
  GATEWAYS_FEATURE,
  NAMES_FEATURE,
  NETWORKS_FEATURE,
  ownFeatures,
  PUBLISHING_FEATURE,
} from "../../contracts/agent-protocol/agent-features.ts";

const VERSION_CHARACTERS = 16;

export interface CapabilityReportsOptions {
  /** The results of the last self test. */
  tested: () => Pick<AgentCapabilities, "docker" | "selfTest">;
  /** The number of sets above which no container starts on the machine. Null if unknown. */
  setsMax: () => number | null;
  /** Other hosts that have volumes on the machine. Null if unknown. */
  otherHostVolumes: () => AgentCapabilities["otherHostVolumes"];
  /** Whether the host connects sets to networks. Undefined while that is unknown. */
  hasNetworks: () => boolean | undefined;
  /** Whether sets with networks resolve the names of services. */
  hasNames: () => boolean;
  /** Whether the network driver of a host with networks publishes ports. */
  publishesPorts: () => boolean;
  /** Whether the build of the network driver knows gateways. */
  knowsGateways: () => boolean;
  /** The address to which other hosts send VXLAN packets. Null without one. */
  tunnelAddress: () => string | null;
  /** The address at which clients reach published ports. Null without one. */
  hostAddress: () => string | null;
  /** Called when the API requests the capabilities, so that a sync follows soon. */
  onRequested: () => void;
}

/**
 * Sends the agent's capabilities when the API requests them. Each sync has their version, by which
 * the API notices a change, a rollback of the agent, and a database without them.
 */
export class CapabilityReports {
  readonly #options: CapabilityReportsOptions;
  #isRequested = false;

  constructor(options: CapabilityReportsOptions) {
    this.#options = options;
  }

  /**
   * Returns the version of the capabilities, and the capabilities if they are requested. At its
   * start, an agent says nothing until it knows the network driver. Otherwise the host would
   * lose the feature `networks` for a moment at each restart.
   */
  take(): { version: string; capabilities: AgentCapabilities | undefined } {
    const { tested, setsMax, otherHostVolumes, hasNetworks, hasNames } = this.#options;
    const isNetworked = hasNetworks();
    if (isNetworked === undefined)
      return { version: UNKNOWN_CAPABILITIES, capabilities: undefined };
    const hostAddress = this.#options.hostAddress();
    const knowsGateways = this.#options.knowsGateways();
    const features = ownFeatures.filter((each) => each !== GATEWAYS_FEATURE || knowsGateways);
    if (isNetworked) features.push(NETWORKS_FEATURE);
    const publishesPorts = !isNetworked || this.#options.publishesPorts();
    if (hostAddress !== null && publishesPorts) features.push(PUBLISHING_FEATURE);
    if (hasNames()) features.push(NAMES_FEATURE);
    const capabilities = {
      features,
      setsMax: setsMax(),
      ...tested(),
      otherHostVolumes: otherHostVolumes(),
      // Even if the driver is not ready, because its flows and sets stay.
      tunnelAddress: this.#options.tunnelAddress(),
      hostAddress,
    };
    const version = createHash("sha256")
      .update(JSON.stringify(capabilities))
      .digest("hex")
      .slice(0, VERSION_CHARACTERS);
    const isRequested = this.#isRequested;
    // After a failed sync, the next answer requests them again. So an API of an earlier release,
    // which refuses them, refuses one sync only.
    this.#isRequested = false;
    return { version, capabilities: isRequested ? capabilities : undefined };
  }

  noteAnswer({ sendCapabilities = false }: { sendCapabilities?: boolean | undefined }): void {
    if (!sendCapabilities) return;
    this.#isRequested = true;
    this.#options.onRequested();
  }
}
