/**
 * The agent's operations on the traffic of its host's sets. Rules belong to a host, not to a set,
 * because a set's allowed peers depend on the addresses of other sets. No adapter implements this
 * port yet, and templates have no rules.
 */
export interface RulesPort {
  /**
   * Replaces the rules of the host atomically. The switch never mixes old and new rules, and never
   * passes traffic that both forbid. Equal rules change nothing. If the call rejects with
   * AgentError, the previous rules stay. After a reboot the host drops all traffic until the first
   * call.
   */
  replace(rules: HostRules, signal: AbortSignal): Promise<void>;
  /**
   * The generation of the current rules; undefined if the switch never had rules or has lost them.
   */
  appliedGeneration(signal: AbortSignal): Promise<number | undefined>;
}

export interface HostRules {
  /** The host's generation of rules. Older rules never replace newer ones (I4). */
  generation: number;
  /** Rules by port id. A port without rules drops all traffic. */
  ports: readonly { portId: string; allow: readonly TrafficRule[] }[];
}

/** Traffic that the switch passes, together with its replies. */
export interface TrafficRule {
  direction: "in" | "out";
  protocol: "tcp" | "udp" | "icmp" | "any";
  /** The peer's addresses in CIDR notation. */
  peer: string;
  /** Ports of tcp or udp, both ends included; undefined means all ports. */
  portRange?: { first: number; last: number } | undefined;
}
