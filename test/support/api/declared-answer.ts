import type { z } from "zod";
import type { Api, MountedOperation } from "../../../src/routes/http/operation.ts";

interface DeclaredResponse {
  content?: Record<string, { schema?: unknown } | undefined>;
}

/** Returns the operation of a method and path, or undefined. */
export function operationOf(api: Api, method: string, path: string): MountedOperation | undefined {
  const pathname = path.split("?")[0] ?? path;
  return api.mounted.find(
    (operation) =>
      operation.method === method &&
      new RegExp(`^${operation.path.replace(/\{[^}]+\}/g, "[^/]+")}$`).test(pathname),
  );
}

/**
 * Throws unless the operation declares the response: its status, its media type, and every member
 * of its body, because the declared schemas are strict. So a leaked field fails every test that
 * receives it.
 */
export async function assertDeclared(
  operation: MountedOperation,
  response: Response,
): Promise<void> {
  const what = `${operation.operationId} answered ${response.status}`;
  const responses = operation.route.responses as Record<string, DeclaredResponse | undefined>;
  const declared = responses[String(response.status)];
  if (!declared) throw new Error(`${what}, which it does not declare: ${await excerpt(response)}`);
  const mediaType = (response.headers.get("content-type") ?? "").split(";")[0] ?? "";
  if (!declared.content) {
    if (mediaType !== "") throw new Error(`${what} with ${mediaType}, and declares no content`);
    return;
  }
  const media = declared.content[mediaType];
  if (!media) throw new Error(`${what} with ${mediaType}, which it does not declare`);
  if (!mediaType.endsWith("json")) return;
  const schema = media.schema as z.ZodType;
  const parsed = schema.safeParse(await response.clone().json());
  if (!parsed.success) {
    throw new Error(
      `${what} with a body that it does not declare: ${JSON.stringify(parsed.error.issues)}`,
    );
  }
}

async function excerpt(response: Response): Promise<string> {
  return (await response.clone().text()).slice(0, 300);
}
