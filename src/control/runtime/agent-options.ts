import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import { hasAgentWithoutIdentity } from "../../db/queries/hosts/agent-records.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";

/** Options of containers that agents without an identity do not know. */
const containerOptions = [
  "init",
  "readOnlyRootfs",
  "capAdd",
  "capDrop",
  "ulimits",
  "tmpfs",
  "logging",
] as const;

/**
 * Rejects options that an agent of the previous release does not know, while one manages a host.
 * Such an agent rejects an answer as a whole, so one set with such an option would cost its host
 * all orders. The agents of this release send an identity, and reject only that set.
 *
 * It does not see an older agent that joins later. Throws unsupported, with pointers.
 */
export async function assertAgentsSupport(
  q: Queryable,
  template: SetTemplate | undefined,
): Promise<void> {
  const pointers = template ? listNewOptions(template) : [];
  if (pointers.length === 0 || !(await hasAgentWithoutIdentity(q))) return;
  const detail =
    "The agent of a host is of an earlier release, which does not support this option. Omit the option, or have an operator upgrade all agents.";
  const errors: FieldError[] = pointers.map((pointer) => ({ pointer, detail }));
  throw new AppError("unsupported", { detail, errors });
}

function listNewOptions({ shmBytes, extraHosts, containers }: SetTemplate): string[] {
  return [
    ...(shmBytes === undefined ? [] : ["/template/shm"]),
    ...(extraHosts === undefined ? [] : ["/template/extraHosts"]),
    ...containers.flatMap(({ options }, position) =>
      containerOptions
        .filter((name) => options[name] !== undefined)
        .map((name) => `/template/containers/${position}/options/${name}`),
    ),
  ];
}
