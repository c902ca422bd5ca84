import type { Command } from "commander";
import type {
  RotatedToken,
  Tenant,
  TenantChange,
  TenantDetail,
  Token,
} from "../../contracts/api/tenancy.ts";
import { parseBytes } from "../../contracts/common/parse-bytes.ts";
import { parseSeconds } from "../output/format-amounts.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { listPages } from "../api/list-pages.ts";
import { printDocument, printItem, printItems } from "../output/print-items.ts";
import { tenantColumns, tokenColumns } from "../output/columns.ts";

const LISTED_MAX = 10_000;

interface CreatedToken {
  token: Token;
  secret: string;
}

/** Adds the commands for tokens, tenants and the enrollment of hosts. They need an admin token. */
export function addAccessCommands(program: Command, cli: Cli): void {
  addTokenCommand(program, cli);
  addTenantCommand(program, cli);
  program
    .command("enroll-token")
    .summary("create a token that enrolls one host")
    .description(
      "Creates a token that enrolls one host, once. Prints only the token, for BERTH_ENROLL_TOKEN=$(berth enroll-token).",
    )
    .argument("[name]", "name of the token", "host")
    .option("--pool <pool>", "pool that the host joins")
    .option("--expires <time>", "lifetime of the token", "1h")
    .action(async (name: string, options: { pool?: string; expires: string }) => {
      const created = await createToken(await cli.api(), {
        name,
        role: "enroll",
        pool: options.pool,
        expiresInSeconds: expirySeconds(options.expires),
      });
      if (cli.isForPrograms) printDocument(cli, created);
      else cli.terminal.out(created.secret);
    });
}

interface TokenOptions {
  role: string;
  ofTenant?: string;
  pool?: string;
  expires?: string;
}

function addTokenCommand(program: Command, cli: Cli): void {
  const command = program.command("token").description("create, rotate, list and revoke tokens");
  command
    .command("create")
    .description("create a token and print its secret once")
    .argument("<name>")
    .requiredOption("--role <role>", "admin, operator, tenant, read or enroll")
    .option(
      "--of-tenant <name>",
      "tenant of the token (required for role tenant, optional for read)",
    )
    .option("--pool <pool>", "pool that the host joins (role enroll)")
    .option("--expires <time>", "lifetime of the token, such as 30d (default: no expiry)")
    .action(async (name: string, options: TokenOptions) => {
      const created = await createToken(await cli.api(), {
        name,
        role: options.role,
        tenant: options.ofTenant,
        pool: options.pool,
        expiresInSeconds: expirySeconds(options.expires),
      });
      if (cli.isForPrograms) {
        printDocument(cli, created);
        return;
      }
      cli.terminal.note(
        `Token ${created.token.name} has role ${created.token.role}. Berth shows its secret only once:`,
      );
      cli.terminal.out(created.secret);
    });
  command
    .command("ls")
    .description("list tokens without their secrets")
    .action(async () => {
      const { items } = await listPages<Token>(await cli.api(), "/v1/tokens", LISTED_MAX);
      printItems(cli, "tokens", tokenColumns, items);
    });
  command
    .command("rotate")
    .description("replace a token once, and print the secret of its successor once")
    .argument("<token>", "name or id")
    .option("--overlap <time>", "time for which the previous token stays valid", "1d")
    .action(async (nameOrId: string, options: { overlap: string }) => {
      await rotateToken(cli, nameOrId, options.overlap);
    });
  command
    .command("revoke")
    .description("revoke a token immediately")
    .argument("<token>", "name or id")
    .action(async (nameOrId: string) => await revokeToken(cli, nameOrId));
}

interface TenantOptions extends QuotaOptions {
  pool?: string[];
  toleration?: string[];
  hostLabel?: string[];
  priorityMax?: string;
}

interface QuotaOptions {
  setsMax?: string;
  cpuMax?: string;
  memoryMax?: string;
  volumeMax?: string;
  rootfsMax?: string;
  trashMax?: string;
}

function addTenantCommand(program: Command, cli: Cli): void {
  const command = program.command("tenant").description("create, change and list tenants");
  withTenantOptions(command.command("create"))
    .description("create a tenant with a quota and grants")
    .argument("<name>")
    .action(async (name: string, options: TenantOptions) => {
      const api = await cli.api();
      const tenant = await api.request<Tenant>("POST", "/v1/tenants", {
        body: { name, quota: quotaOf(options), grants: grantsOf(options) },
      });
      printItem(cli, tenantColumns, tenant);
    });
  withTenantOptions(command.command("update").alias("set"))
    .description("change quota or grants of a tenant; a list of grants replaces the previous list")
    .argument("<name>")
    .action(async (name: string, options: TenantOptions) => {
      const api = await cli.api();
      const change = await api.request<TenantChange>("PATCH", `/v1/tenants/${name}`, {
        body: { quota: quotaOf(options), grants: grantsOf(options) },
      });
      if (cli.isForPrograms) printDocument(cli, change);
      else for (const effect of change.effects) cli.terminal.out(effect);
    });
  command
    .command("get")
    .description("show a tenant with its quota, grants and usage, as JSON")
    .argument("<name>")
    .action(async (name: string) => {
      const api = await cli.api();
      printDocument(cli, await api.request<TenantDetail>("GET", `/v1/tenants/${name}`));
    });
  command
    .command("ls")
    .description("list tenants")
    .action(async () => {
      const { items } = await listPages<Tenant>(await cli.api(), "/v1/tenants", LISTED_MAX);
      printItems(cli, "tenants", tenantColumns, items);
    });
}

function withTenantOptions(command: Command): Command {
  return command
    .option("--sets-max <count>", "maximum number of sets")
    .option("--cpu-max <cores>", "maximum CPU cores of all sets together")
    .option("--memory-max <size>", "maximum memory of all sets together, such as 512Gi")
    .option("--volume-max <size>", "maximum size of all volumes together")
    .option("--rootfs-max <size>", "maximum size of all root file systems together")
    .option(
      "--trash-max <size>",
      "size of the trashed volumes above which Berth rejects new volumes",
    )
    .option("--pool <pool...>", "permitted host pools, or '*' (default: default)")
    .option("--toleration <taint...>", "permitted tolerations: key=value, key=* or '*'")
    .option("--host-label <label...>", "permitted host labels: key=value, key=* or '*'")
    .option("--priority-max <priority>", "highest permitted priority of services, 0 to 1000");
}

function grantsOf(options: TenantOptions): Record<string, unknown> {
  const { pool, toleration, hostLabel, priorityMax } = options;
  return {
    ...(pool ? { pools: pool } : {}),
    ...(toleration ? { tolerations: toleration } : {}),
    ...(hostLabel ? { hostLabels: hostLabel } : {}),
    ...(priorityMax === undefined ? {} : { priorityMax: Number(priorityMax) }),
  };
}

function quotaOf(options: QuotaOptions): Record<string, number> {
  const quota: Record<string, number> = {};
  if (options.setsMax !== undefined) quota["setsMax"] = Number(options.setsMax);
  if (options.cpuMax !== undefined)
    quota["cpuMillisMax"] = Math.round(Number(options.cpuMax) * 1000);
  for (const kind of ["memory", "volume", "rootfs", "trash"] as const) {
    const size = options[`${kind}Max`];
    if (size === undefined) continue;
    const bytes = parseBytes(size);
    if (bytes === undefined)
      throw usageError(`--${kind}-max ${size} is not a size, such as 512Gi.`);
    quota[`${kind}BytesMax`] = bytes;
  }
  for (const [member, amount] of Object.entries(quota)) {
    if (!Number.isSafeInteger(amount) || amount < 0)
      throw usageError(`The quota ${member} must be a whole number of at least 0.`);
  }
  return quota;
}

export async function createToken(
  api: ApiClient,
  body: {
    name: string;
    role: string;
    tenant?: string | undefined;
    pool?: string | undefined;
    expiresInSeconds?: number | undefined;
  },
): Promise<CreatedToken> {
  return await api.request<CreatedToken>("POST", "/v1/tokens", { body });
}

function expirySeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = parseSeconds(text);
  if (seconds === undefined)
    throw usageError(`--expires ${text} is not a duration, such as 1h or 30d.`);
  return seconds;
}

/** Reads the time for which a previous secret stays valid. Throws a usage error. */
export function overlapSeconds(text: string): number {
  const seconds = parseSeconds(text);
  if (seconds === undefined)
    throw usageError(`--overlap ${text} is not a duration, such as 1h or 7d.`);
  return seconds;
}

async function rotateToken(cli: Cli, nameOrId: string, overlap: string): Promise<void> {
  const body = { overlapSeconds: overlapSeconds(overlap) };
  const api = await cli.api();
  const { id } = await findValidToken(api, nameOrId);
  const rotated = await api.request<RotatedToken>("POST", `/v1/tokens/${id}/rotate`, { body });
  if (cli.isForPrograms) {
    printDocument(cli, rotated);
    return;
  }
  const { former, secret } = rotated;
  cli.terminal.note(
    `Token ${former.id} ${former.expiresAt === null ? "does not expire" : `expires at ${former.expiresAt}`}. Berth shows the secret of its successor only once:`,
  );
  cli.terminal.out(secret);
}

async function revokeToken(cli: Cli, nameOrId: string): Promise<void> {
  const api = await cli.api();
  const token = await findValidToken(api, nameOrId);
  await api.request("DELETE", `/v1/tokens/${token.id}`);
  if (cli.isForPrograms) printDocument(cli, { revoked: token.id });
  else cli.terminal.out(`token ${token.name} revoked`);
}

async function findValidToken(api: ApiClient, nameOrId: string): Promise<Token> {
  const { items } = await listPages<Token>(api, "/v1/tokens", LISTED_MAX);
  const matching = items.filter(
    (token) => token.id === nameOrId || (token.name === nameOrId && token.revokedAt === null),
  );
  const [token, another] = matching;
  if (!token) {
    throw new CliError(`Valid token "${nameOrId}" not found.`, {
      exitCode: exitCodes.notFound,
      hints: ["`berth token ls` lists the tokens."],
    });
  }
  if (another) {
    throw new CliError(
      `${matching.length} tokens have the name "${nameOrId}". Use the id of one.`,
      {
        exitCode: exitCodes.conflict,
        hints: matching.map(({ id }) => id),
      },
    );
  }
  return token;
}
