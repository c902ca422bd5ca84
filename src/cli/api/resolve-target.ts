import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { CliSettings } from "../cli-settings.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { parseJson } from "./parse-json.ts";

/** The URL, the credential and the tenant of the requests. */
export interface Target {
  apiUrl: string;
  token: string | undefined;
  tenant: string | undefined;
  /** The origin of the URL, for messages. */
  source: string;
}

export const DEFAULT_API_URL = "http://127.0.0.1:7460";
/** The file in the data directory where `berth up` writes the URL of its API. */
export const LOCAL_API_FILE = "api.json";

interface TargetFlags {
  apiUrl?: string;
  tokenFile?: string;
  tenant?: string;
  context?: string;
}

interface Candidate {
  apiUrl?: string | undefined;
  token?: string | undefined;
  tenant?: string | undefined;
  source: string;
}

/**
 * Finds the URL, the token and the tenant. Options take precedence over the environment, then
 * a context, then an all-in-one Berth in the data directory. A token of a context or of a local
 * Berth goes only to its own URL. Throws a usage error for an unreadable or invalid file.
 */
export async function resolveTarget(flags: TargetFlags, settings: CliSettings): Promise<Target> {
  const givenUrl = flags.apiUrl ?? settings.apiUrl;
  if (givenUrl !== undefined && !isHttpUrl(givenUrl))
    throw usageError(`"${givenUrl}" is not an http or https URL.`);
  const givenToken = await readGivenToken(flags, settings);
  const isComplete = givenUrl !== undefined && givenToken !== undefined;
  const contextName = flags.context ?? settings.context;
  const found =
    isComplete && contextName === undefined
      ? undefined
      : ((await readContext(contextName, settings.configFile)) ??
        (await readLocalApi(settings.dataDir)));
  const apiUrl = givenUrl ?? found?.apiUrl ?? DEFAULT_API_URL;
  const belongs = found?.apiUrl !== undefined && isSameOrigin(found.apiUrl, apiUrl);
  return {
    apiUrl,
    token: givenToken ?? (belongs ? found.token : undefined),
    tenant: flags.tenant ?? settings.tenant ?? (belongs ? found.tenant : undefined),
    source: givenUrl === undefined ? (found?.source ?? "default") : "given",
  };
}

async function readGivenToken(
  flags: TargetFlags,
  settings: CliSettings,
): Promise<string | undefined> {
  if (flags.tokenFile !== undefined) return await readToken(flags.tokenFile);
  if (settings.token !== undefined) return settings.token;
  return settings.tokenFile === undefined ? undefined : await readToken(settings.tokenFile);
}

async function readContext(name: string | undefined, file: string): Promise<Candidate | undefined> {
  const text = await readIfThere(file);
  if (text === undefined) {
    if (name === undefined) return undefined;
    throw usageError(`Context ${name} not found: ${file} does not exist.`);
  }
  const { parseContexts } = await import("./parse-contexts.ts"); // loads zod
  const contexts = parseContexts(text, file);
  const chosen = name ?? contexts.current;
  if (chosen === undefined) return undefined;
  const context = contexts.contexts[chosen];
  if (!context) {
    const known = Object.keys(contexts.contexts).join(", ") || "none";
    throw usageError(`Context ${chosen} not found in ${file}. Its contexts: ${known}.`);
  }
  const token =
    context.token ??
    (context.tokenFile === undefined ? undefined : await readToken(context.tokenFile));
  return { apiUrl: context.apiUrl, token, tenant: context.tenant, source: `context ${chosen}` };
}

/**
 * Reads the URL of a local all-in-one Berth from its data directory, and its admin token. Only
 * the owner of the files can read the token.
 */
async function readLocalApi(dataDir: string): Promise<Candidate | undefined> {
  const file = join(dataDir, LOCAL_API_FILE);
  const text = await readIfThere(file);
  if (text === undefined) return undefined;
  const local = parseLocalApi(text, file);
  const token = await readIfThere(local.adminTokenFile);
  return { apiUrl: local.apiUrl, token: token?.trim(), source: dataDir };
}

async function readToken(file: string): Promise<string> {
  const token = (await readIfThere(file))?.trim();
  if (token === undefined || token === "")
    throw usageError(`The token file ${file} is missing, unreadable or empty.`);
  return token;
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EACCES") return undefined;
    throw new CliError(`Cannot read ${file}: ${code ?? "unknown error"}.`, {
      exitCode: exitCodes.usage,
      cause: error,
    });
  }
}

function parseLocalApi(text: string, file: string): { apiUrl: string; adminTokenFile: string } {
  const { apiUrl, adminTokenFile } = parseJson(text, file) as Record<string, unknown>;
  if (typeof apiUrl !== "string" || !isHttpUrl(apiUrl) || typeof adminTokenFile !== "string")
    throw usageError(`${file} is invalid. Delete it. \`berth up\` writes it again.`);
  return { apiUrl, adminTokenFile };
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function isSameOrigin(a: string, b: string): boolean {
  return new URL(a).origin === new URL(b).origin;
}
