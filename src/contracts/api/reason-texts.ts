import { formatCount } from "../../lib/text/format-count.ts";
import { truncate } from "../../lib/text/truncate.ts";
import type { Duplicate } from "./hosts.ts";
import { type Reason, TEXT_CHARACTERS_MAX } from "../common/primitives.ts";

/** The sentence needs no facts. */
type NoFacts = Record<string, unknown>;

interface HostFacts {
  /** The name of the host. */
  host: string;
}

type ResizeRefused =
  | (HostFacts & { cause: "no-capacity"; isLost: boolean; missing: string })
  | (HostFacts & { cause: "no-move" })
  | { cause: "report"; reason: string | null };

function resizeRefusedText(facts: ResizeRefused): string {
  switch (facts.cause) {
    case "no-capacity":
      return `Host ${facts.host}${facts.isLost ? " is lost and" : ""} has no capacity for the new size (${facts.missing}).`;
    case "no-move":
      return `Host ${facts.host} has no capacity for the new size. Free capacity there, or repeat the resize with "ifNoCapacity": "move".`;
    case "report":
      return `The host refused the new size; the set returns to its previous size. Reason: ${facts.reason ?? "none reported."}`;
  }
}

/** States which second agent uses the identity of a host, and how an operator ends that. */
export function duplicateText(cause: Duplicate): string {
  switch (cause) {
    case "another-machine":
      return "A second machine uses the identity of this host. Berth refuses it, and its agent starts no set. Stop the agent there, delete `host-agent.json` in its `BERTH_AGENT_DATA_DIR`, and enroll that machine with a new `BERTH_ENROLL_TOKEN`.";
    case "another-boot":
      return "A copy of this machine, with the same machine id, uses the identity of this host. Berth refuses the copy, and its agent manages no set. Stop the agent there, delete `host-agent.json` in its `BERTH_AGENT_DATA_DIR`, and empty `/etc/machine-id`. Then restart the copy, and enroll it with a new `BERTH_ENROLL_TOKEN`.";
    case "newer-process":
      return "Two agents run on this machine with the identity of this host. The newer one manages the host, and the older one is idle. Stop one of them.";
  }
}

/**
 * The sentence of each reason that the control plane stores with a set or a host; agents write the
 * reasons of their own. SQL takes the text as a parameter, as it does for `eventTexts`.
 */
export const reasonTexts = {
  "volume-host-lost": (facts: HostFacts & { cause: "host-lost" | "docker-unresponsive" }) =>
    `The set is waiting for host ${facts.host}, which has its volume and ${
      facts.cause === "host-lost" ? "is lost" : "has a Docker daemon that does not respond"
    }. To start the set elsewhere with an empty volume, set \`onHostLost\` to replace-without-data.`,
  "host-lost-replaced": (_facts: NoFacts) => "Another set replaces this set.",
  "lease-expired": (_facts: NoFacts) =>
    "The lease expired: the agent does not reach the control plane.",
  "host-lost": (_facts: NoFacts) => "Host lost; state unknown.",
  "docker-unreachable": (facts: { reason: string | null }) =>
    facts.reason ?? "The Docker daemon does not respond.",
  "generation-refused": (facts: { acceptedGeneration: number; databaseGeneration: number }) =>
    `Berth refuses the reports of the agent, because its state is corrupt: it has generation ${facts.acceptedGeneration}, but the database has ${facts.databaseGeneration}. Stop the agent, set \`acceptedGeneration\` to 0 in its \`host-agent.json\`, and start it.`,
  "host-duplicated": (facts: { cause: Duplicate }) => duplicateText(facts.cause),
  "disk-full": (facts: { detail: string }) =>
    `The disk with the state of the agent is full (${facts.detail}). Until it has space, it applies only orders that stop or remove sets. Other sets run on.`,
  "state-not-saved": (facts: { detail: string }) =>
    `The agent cannot save its state (${facts.detail}). Until it can, it applies only orders that stop or remove sets. Other sets run on.`,
  "agent-too-old": (facts: { detail: string }) =>
    `The agent of the host is too old for this set (${facts.detail}). Upgrade the agent.`,
  "self-test-failed": (facts: { reason: string | null; isOnlyReported?: boolean }) =>
    `${
      facts.isOnlyReported
        ? "The self test of the host failed. The host takes new sets, because `BERTH_AGENT_SELF_TEST` is `report`. The"
        : "The host takes no new sets, because its self test failed, unless too many hosts of its pool fail. Running sets stay, and the"
    } agent repeats the test. Cause: ${facts.reason ?? "none reported."}`,
  "unknown-sets": (facts: { sets: number }) =>
    `The host has ${formatCount(facts.sets, "set")} that the database does not know. Their containers continue to run. Save what you need, apply your manifests, then run \`berth delete unknown-sets HOST\`.`,
  "tunnel-address-missing": (_facts: NoFacts) =>
    "The host has no tunnel address, so its sets and those on other hosts do not reach each other. Set `BERTH_TUNNEL_ADDRESS` of its agent to an address that the other hosts reach.",
  "tunnel-address-shared": (facts: { address: string }) =>
    `Another host has the tunnel address ${facts.address}, too, so sets on other hosts reach only one of them. Give each host an address of its own, or set \`BERTH_TUNNEL_ADDRESS\` of its agent.`,
  "resize-refused": resizeRefusedText,
  "volume-bound": (facts: HostFacts) =>
    `The set stays on host ${facts.host} with its volume: elsewhere it would start empty. To give up the data, move the set with "discardVolume".`,
  "move-waits": (
    facts: HostFacts & { limitedBy: "max-unavailable" | "max-surge"; inUse: number; limit: number },
  ) => {
    const limited = facts.limitedBy === "max-surge" ? "replacements" : "unavailable sets";
    return `The set is waiting for the disruption budget before it leaves host ${facts.host} (${limited}: ${facts.inUse} of at most ${facts.limit}).`;
  },
  "move-held": (facts: HostFacts & { explanation: string }) =>
    `The set stays on host ${facts.host} until another host has capacity: ${facts.explanation}`,
  "update-waits": (facts: {
    limitedBy: "max-unavailable" | "max-surge";
    inUse: number;
    limit: number;
  }) =>
    `The set is waiting for the disruption budget before its update (${facts.limitedBy === "max-surge" ? "replacements" : "unavailable sets"}: ${facts.inUse} of at most ${facts.limit}).`,
  "update-held": (facts: { explanation: string }) =>
    `The set waits for its update until a host has capacity for its replacement: ${facts.explanation}`,
  "update-not-ready": (facts: { seconds: number }) =>
    `The set is not ready ${formatCount(facts.seconds, "second")} after the begin of its update.`,
  "update-unready": (facts: { seconds: number }) =>
    `The updated set was ready, and has been unready for ${formatCount(facts.seconds, "second")}.`,
  "update-crash-loop": (facts: { restarts: number }) =>
    `A container of the updated set has restarted ${facts.restarts} times.`,
  "update-gave-up": (_facts: NoFacts) => "The host no longer tries to start the updated set.",
  "image-not-pulled": (_facts: NoFacts) =>
    "The host of the set cannot pull an image of its update.",
  "rollout-set-failed": (facts: { failed: number; setId: string; cause: string }) =>
    `${formatCount(facts.failed, "set")} failed. Set ${facts.setId}: ${facts.cause}`,
  "rollout-changed": (facts: { by: string; reason: string | null }) =>
    `Requested by ${facts.by}${facts.reason === null ? "." : `: ${facts.reason}`}`,
  "rollout-superseded": (facts: { number: number }) =>
    `Rollout ${facts.number} of the service has superseded it.`,
  "rollout-service-deleted": (_facts: NoFacts) => "The service is being deleted.",
  "rollout-not-startable": (facts: { explanation: string }) =>
    `The change no longer applies to the service. ${facts.explanation}`,
  "operation-expired": (_facts: NoFacts) =>
    "The set could not move before the deadline of its operation, which has expired.",
  "replacement-not-ready": (facts: { replacementSetId: string }) =>
    `Replacement ${facts.replacementSetId} did not become ready in time. Berth retries the move later.`,
  "replacement-over-quota": (_facts: NoFacts) =>
    "The tenant's quota allows no replacement until hosts report removed sets absent. Berth retries every 30 s.",
  "no-host-fits": (facts: { explanation: string; lastFailure: string | null }) =>
    facts.lastFailure === null
      ? facts.explanation
      : `${facts.explanation} The last start failed: ${facts.lastFailure}`,
} satisfies Record<string, (facts: never) => string>;

export type ReasonCode = keyof typeof reasonTexts;
export type ReasonFacts<C extends ReasonCode> = Parameters<(typeof reasonTexts)[C]>[0];

/** The sentence of a reason, at most 2,000 characters. */
export function renderReasonText<C extends ReasonCode>(code: C, facts: ReasonFacts<C>): string {
  const render = reasonTexts[code] as (facts: ReasonFacts<C>) => string;
  return truncate(render(facts), TEXT_CHARACTERS_MAX);
}

/** A reason with its sentence, which arose in this phase of the life of a set. */
export function createReason<C extends ReasonCode>(
  code: C,
  facts: ReasonFacts<C>,
  phase: "placement" | "resize" | "rollout",
): Reason {
  return { code, text: renderReasonText(code, facts), phase };
}
