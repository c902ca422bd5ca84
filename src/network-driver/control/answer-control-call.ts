import { z } from "zod";
import type { DriverStatus } from "../../contracts/network-driver/driver-status.ts";
import {
  type NetworkState,
  networkStateSchema,
} from "../../contracts/network-driver/network-state.ts";

export interface ControlAnswer {
  status: number;
  body: object;
}

export interface ControlCalls {
  status: () => DriverStatus;
  /** Stores the state, and applies its flows. */
  acceptNetworkState: (state: NetworkState) => Promise<AcceptedState>;
}

export type AcceptedState =
  /**
   * `isApplied` is false if the switch does not answer: the driver applies the flows later.
   * `isStored` is false if the disk is full: the driver stores the state later.
   */
  | { isApplied: boolean; isStored: boolean }
  /** The driver has this higher version, and changes nothing. */
  | { newerVersion: number };

/** Answers one request of the host's agent on the control socket. Rejects only for a bug. */
export async function answerControlCall(
  calls: ControlCalls,
  { method, path, body }: { method: string; path: string; body: string },
): Promise<ControlAnswer> {
  const route = `${method} ${path}`;
  if (route === "GET /v1/status") return { status: 200, body: calls.status() };
  if (route !== "PUT /v1/network-state")
    return refuse(404, "The network driver has GET /v1/status and PUT /v1/network-state.");
  const parsed = networkStateSchema.safeParse(readJson(body));
  if (!parsed.success) return refuse(422, z.prettifyError(parsed.error).slice(0, 2_000));
  const { version } = parsed.data;
  const accepted = await calls.acceptNetworkState(parsed.data);
  if ("isApplied" in accepted) return { status: 200, body: { version, ...accepted } };
  return refuse(
    409,
    `The driver has the newer version ${accepted.newerVersion}, and ignores version ${version}.`,
  );
}

function refuse(status: number, error: string): ControlAnswer {
  return { status, body: { error } };
}

/** Returns undefined for text that is not JSON. No schema accepts that. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
