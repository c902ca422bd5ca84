import type { Command } from "commander";
import type { Tenant, TenantChange, TenantDetail, Token } from "../../contracts/api/tenancy.ts";
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

/** Commands of admins: tokens, tenants and the enrollment of hosts. */
export function addAccessCommands(program: Command, cli: Cli): void {
  addTokenCommand(program, cli);
  addTenantCommand(program, cli);
  program
    .command("enroll-token")
    .summary("make a token with which one host enrolls, once")
    .description(
      "Makes a token with which one host enrolls, once, and prints it alone: BERTH_ENROLL_TOKEN=$(berth enroll-token).",
    )
    .argument("[name]", "what to call it", "host")
    .option("--pool <pool>", "the pool that the host joins")
    .option("--expires <time>", "how long it is valid", "1h")
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
  const command = program.command("token").description("make, list and revoke tokens");
  command
    .command("create")
    .description("make a token; its secret is shown this once")
    .argument("<name>")
    .requiredOption("--role <role>", "admin, operator, tenant, read or enroll")
    .option("--of-tenant <name>", "the tenant it is bound to (role tenant; role read may)")
    .option("--pool <pool>", "the pool that the host joins (role enroll)")
    .option("--expires <time>", "how long it is valid, such as 30d (default: for ever)")
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
      cli.terminal.note(`token ${created.token.name} (${created.token.role}); shown this once:`);
      cli.terminal.out(created.secret);
    });
  command
    .command("ls")
    .description("list tokens; secrets are never shown again")
    .action(async () => {
      const { items } = await listPages<Token>(await cli.api(), "/v1/tokens", LISTED_MAX);
      printItems(cli, "tokens", tokenColumns, items);
    });
  command
    .command("revoke")
    .description("make a token worthless, at once")
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
  withTenantOptions(command.command("set"))
    .description("change the quota or the grants of a tenant; a list replaces the former list")
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
    .description("show a tenant with its quota, grants and use, as JSON")
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
    .option("--sets-max <count>", "bound of its sets")
    .option("--cpu-max <cores>", "bound of the CPU cores of its sets together")
    .option("--memory-max <size>", "bound of the memory of its sets together, such as 512Gi")
    .option("--volume-max <size>", "bound of the volumes of its sets together")
    .option("--rootfs-max <size>", "bound of the root file systems of its sets together")
    .option("--trash-max <size>", "bound of its trashed volumes; a larger trash blocks new volumes")
    .option("--pool <pool...>", "host pools that it may use, or '*' (default: default)")
    .option("--toleration <taint...>", "taints that it may tolerate: key=value, key=* or '*'")
    .option("--host-label <label...>", "host labels that it may select: key=value, key=* or '*'")
    .option("--priority-max <priority>", "highest priority of its services, 0 to 1000");
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
      throw usageError(`--${kind}-max ${size}: expected a size such as 512Gi.`);
    quota[`${kind}BytesMax`] = bytes;
  }
  for (const [member, amount] of Object.entries(quota)) {
    if (!Number.isSafeInteger(amount) || amount < 0)
      throw usageError(`The quota's ${member} must be a whole number of at least 0.`);
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
    throw usageError(`--expires ${text}: expected a time such as 1h or 30d.`);
  return seconds;
}

async function revokeToken(cli: Cli, nameOrId: string): Promise<void> {
  const api = await cli.api();
  const { items } = await listPages<Token>(api, "/v1/tokens", LISTED_MAX);
  const matching = items.filter(
    (token) => token.id === nameOrId || (token.name === nameOrId && token.revokedAt === null),
  );
  const [token, another] = matching;
  if (!token) {
    throw new CliError(`There is no valid token "${nameOrId}".`, {
      exitCode: exitCodes.notFound,
      hints: ["`berth token ls` lists them."],
    });
  }
  if (another) {
    throw new CliError(`${matching.length} tokens are called "${nameOrId}": name one by its id.`, {
      exitCode: exitCodes.conflict,
      hints: matching.map(({ id }) => id),
    });
  }
  await api.request("DELETE", `/v1/tokens/${token.id}`);
  if (cli.isForPrograms) printDocument(cli, { revoked: token.id });
  else cli.terminal.out(`token ${token.name} revoked`);
}
