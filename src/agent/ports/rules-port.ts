/**
 * What the agent can do to the traffic of its host's sets. Rules are of a whole host, not of a set: what one set may be sent depends
 * on where the others are. No adapter implements it yet: templates cannot ask for rules.
 */
export interface RulesPort {
  /**
   * Makes these the rules of the host, all at once: at no moment is some traffic judged by the old ones and some by the new, and
   * none is let through that both forbid. The same rules again change nothing. When it rejects (AgentError) those before
   * hold on; after a restart of the host nothing is let through until the first call.
   */
  replace(rules: HostRules, signal: AbortSignal): Promise<void>;
  /** The generation of the rules that hold now; undefined: none were ever given, or the switch has lost them. */
  appliedGeneration(signal: AbortSignal): Promise<number | undefined>;
}

export interface HostRules {
  /** Of the host: older rules never override newer ones (I4). */
  generation: number;
  /** By port id; a port that is not named lets nothing through. */
  ports: readonly { portId: string; allow: readonly TrafficRule[] }[];
}

/** Traffic that is let through; answers to it are, too. */
export interface TrafficRule {
  direction: "in" | "out";
  protocol: "tcp" | "udp" | "icmp" | "any";
  /** CIDR of the other side. */
  peer: string;
  /** Of tcp and udp, both included; undefined: all. */
  portRange?: { first: number; last: number } | undefined;
}
