import { runAbortable } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { DriverError } from "../model/driver-error.ts";
import { LinkError } from "../ports/link-port.ts";
import { SwitchError } from "../ports/switch-port.ts";
import type { DockerCall } from "./docker-call.ts";

/** Docker waits 30 s for an answer, and its other calls for the container wait meanwhile. */
const CALL_TIMEOUT_MS = 10_000;
/** Docker has one call in flight for each container that starts or stops, and few for networks. */
const CALLS_MAX = 512;

/**
 * If the driver dies during a call, Docker repeats the call with an empty body. Its client has sent
 * the body and does not rewind it (moby:pkg/plugins/client.go). So the driver cannot know which
 * endpoint it was. Docker gives the error to its caller, except when it removes an endpoint.
 */
const LOST_CALL =
  "Docker repeated a call without its content, because the network driver stopped during the first attempt. Try again.";

export type AnswerDockerCall = (
  path: string,
  body: string,
  signal?: AbortSignal,
) => Promise<object>;

/**
 * Answers one call of Docker: `path` is the method after a slash, such as `/NetworkDriver.Join`.
 * Never rejects: an error becomes `{"Err": …}`, or `{"Error": …}` for addresses, with a sentence
 * that Docker shows to its caller. A method that the driver does not know gets `{}`, because later
 * releases of Docker add optional ones.
 */
export function createDockerAnswers(
  calls: Readonly<Record<string, DockerCall>>,
  {
    log,
    onLostCall,
    timeoutMs = CALL_TIMEOUT_MS,
  }: {
    log: Log;
    /** Called when Docker has lost a call, so that the records may differ from what it knows. */
    onLostCall: () => void;
    timeoutMs?: number;
  },
): AnswerDockerCall {
  const methods = new Map(Object.entries(calls));
  let running = 0;
  return async (path, body, signal) => {
    const name = path.slice(1);
    const call = methods.get(name);
    if (!call) return {};
    if (running >= CALLS_MAX)
      return toAnswer(name, `Berth's network driver has ${CALLS_MAX} calls in flight. Try again.`);
    running += 1;
    try {
      const onLate = (): never => {
        throw new DriverError(
          `The call ${name} did not end within ${timeoutMs / 1_000} s. Check that Open vSwitch answers (ovs-vsctl show), and try again.`,
        );
      };
      if (call.needsBody && body === "") {
        onLostCall();
        throw new DriverError(LOST_CALL);
      }
      return await runAbortable({ signal, deadline: { timeoutMs, onLate } }, async (callSignal) =>
        call.perform(call.needsBody ? parseBody(body) : {}, callSignal),
      );
    } catch (error) {
      log.warn({ err: error, call: name }, "a call of Docker failed");
      return toAnswer(name, toSentence(error));
    } finally {
      running -= 1;
    }
  };
}

/** Network calls and IPAM calls have different members for an error. */
function toAnswer(name: string, sentence: string): object {
  return name.startsWith("IpamDriver.") ? { Error: sentence } : { Err: sentence };
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new DriverError("Docker sent a call whose body is not JSON.");
  }
}

/** Hides errors other than these three, because their messages may name internals. See the log. */
function toSentence(error: unknown): string {
  const isClear =
    error instanceof DriverError || error instanceof LinkError || error instanceof SwitchError;
  return isClear
    ? error.message
    : "Berth's network driver failed. See the log of berth-network-driver.";
}
